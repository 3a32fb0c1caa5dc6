//! `[models.NAME]` → a card: what the table says, and what the catalogue knows besides.

use jiff::{civil::Date, tz::TimeZone};

use super::{
    Config, Origin, Origins,
    catalogue::ModelFacts,
    reader::{Located, Section, did_you_mean},
};
use crate::{
    policy::{Abilities, Ability, Mode, ModelCard, PriceChange},
    units::{BatchPrice, LongPrompt, Price},
};

/// Dearest price accepted, in dollars per million tokens: a guard against a slip of units.
const MAX_USD_PER_MTOK: f64 = 100_000.0;
/// Dearest fee for one request, in dollars.
const MAX_REQUEST_USD: f64 = 1_000.0;

/// Reads a table whose providers are known already, and tells where each figure comes from.
pub fn read(
    name: &Located<String>,
    section: &Section<'_>,
    config: &Config,
) -> (ModelCard, Origins) {
    let provider = provider(section, config).unwrap_or_default();
    let upstream_name = section.str("upstream_name");
    let upstream_name = upstream_name.map_or_else(|| name.value.clone(), |upstream| upstream.value);
    let (facts, found) = catalogued(section, config, &provider, &upstream_name);
    let tokens = |key| section.integer(key, 1..=u64::from(u32::MAX)).map(|n| n as u32);
    let (context_window, max_output_tokens) =
        (tokens("context_window"), tokens("max_output_tokens"));
    let price = section.section("price").and_then(price);
    let abilities = abilities(section);
    let mode = section.word("mode", &Mode::NAMES).and_then(|mode| Mode::from_name(&mode.value));
    let origins = Origins {
        context_window: found.unless(context_window.is_some(), facts.context_window.is_some()),
        max_output_tokens: found
            .unless(max_output_tokens.is_some(), facts.max_output_tokens.is_some()),
        price: found.unless(price.is_some(), facts.price.is_some()),
        abilities: found.unless(!abilities.is_unknown(), !facts.abilities.is_unknown()),
    };
    let card = ModelCard {
        name: name.value.clone(),
        provider,
        upstream_name,
        context_window: context_window.or(facts.context_window),
        max_output_tokens: max_output_tokens.or(facts.max_output_tokens),
        price: price.or(facts.price.map(Price::from)),
        price_changes: price_changes(section),
        abilities: abilities.over(&facts.abilities),
        mode: mode.or((found != Origin::Unknown).then_some(facts.mode)),
    };
    (card, origins)
}

fn provider(section: &Section<'_>, config: &Config) -> Option<String> {
    let names = || config.providers.iter().map(|provider| provider.name.as_str());
    let provider = section.required_str("provider", "name one of the [providers.NAME] tables")?;
    if !names().any(|name| name == provider.value) {
        let message = format!("no provider is named `{}`", provider.value);
        let suggestion = did_you_mean(&provider.value, names())
            .unwrap_or_else(|| format!("add [providers.{}]", provider.value));
        section.error(provider.span, "provider", message, Some(suggestion));
    }
    Some(provider.value)
}

/// What the catalogue knows of the model that `catalogue` names, else of the one with this
/// upstream name; nothing, when it does not know it.
fn catalogued(
    section: &Section<'_>,
    config: &Config,
    provider: &str,
    upstream_name: &str,
) -> (ModelFacts, Origin) {
    let named = section.str("catalogue");
    let own = || Some((config.catalogued.get(provider)?.name.as_str(), upstream_name));
    let place = match &named {
        Some(named) => named.value.split_once('/'),
        None => own(),
    };
    let facts = place.and_then(|(provider, model)| config.catalogue.find(provider, model));
    if let (Some(named), None) = (named.as_ref(), facts) {
        let message = format!("the catalogue has no model `{}`", named.value);
        let suggestion = "write PROVIDER/MODEL; `weighbridge models --all` lists them".to_owned();
        section.error(named.span.clone(), "catalogue", message, Some(suggestion));
    }
    match (facts, place) {
        (Some(facts), Some((provider, model))) => {
            let local = config.catalogue.is_local(provider, model);
            (facts.clone(), if local { Origin::Local } else { Origin::Catalogue })
        }
        _ => (ModelFacts::default(), Origin::Unknown),
    }
}

impl Origin {
    /// The origin of a figure: the configuration if it has it, else this if it has it.
    fn unless(self, configured: bool, known: bool) -> Self {
        match (configured, known) {
            (true, _) => Self::Configuration,
            (false, true) => self,
            (false, false) => Self::Unknown,
        }
    }
}

/// Prices to come: each a price table with `from`, a day that begins in UTC.
fn price_changes(section: &Section<'_>) -> Vec<PriceChange> {
    let mut changes = Vec::new();
    for change in section.list_of_sections("price_changes").unwrap_or_default() {
        let from = change.required_str("from", "write the day, like \"2027-01-31\"");
        let date = from.as_ref().and_then(|from| from.value.parse::<Date>().ok());
        let start = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        if let (Some(from), None) = (&from, &start) {
            let message = format!("`{}` is not a date", from.value);
            let suggestion = "write it like \"2027-01-31\"".to_owned();
            change.error(from.span.clone(), "from", message, Some(suggestion));
        }
        if let (Some(start), Some(price)) = (start, price(change)) {
            changes.push(PriceChange { from_ms: start.timestamp().as_millisecond(), price });
        }
    }
    changes.sort_by_key(|change| change.from_ms);
    changes
}

/// `abilities` lists what the model can do, `lacks` what it cannot.
fn abilities(section: &Section<'_>) -> Abilities {
    let mut abilities = match section.strings("abilities") {
        Some(listed) => named(&listed, "abilities", section).into_iter().collect(),
        None => Abilities::default(),
    };
    for ability in named(&section.strings("lacks").unwrap_or_default(), "lacks", section) {
        abilities.set(ability, false);
    }
    abilities
}

fn named(listed: &[Located<String>], key: &str, section: &Section<'_>) -> Vec<Ability> {
    let mut abilities = Vec::new();
    for name in listed {
        match Ability::from_name(&name.value) {
            Some(ability) => abilities.push(ability),
            None => {
                let known = Ability::ALL.map(Ability::name);
                let suggestion = did_you_mean(&name.value, known.into_iter())
                    .unwrap_or_else(|| format!("known abilities: {}", known.join(", ")));
                let message = format!("`{}` is not an ability", name.value);
                section.error(name.span.clone(), key, message, Some(suggestion));
            }
        }
    }
    abilities
}

/// Nano-dollars a million tokens.
fn nano(section: &Section<'_>, key: &'static str) -> Option<u64> {
    let usd = section.number(key, 0.0..=MAX_USD_PER_MTOK)?;
    Some((usd.value * 1e9).round() as u64)
}

fn price(section: Section<'_>) -> Option<Price> {
    let (input, output) = input_and_output(&section);
    let cached = nano(&section, "cached_input_usd_per_mtok");
    let request = section.number("request_usd", 0.0..=MAX_REQUEST_USD);
    let price = Price {
        input_nano_usd_per_mtok: input.unwrap_or(0),
        output_nano_usd_per_mtok: output.unwrap_or(0),
        cached_input_nano_usd_per_mtok: cached.or(input).unwrap_or(0),
        cache_write_nano_usd_per_mtok: nano(&section, "cache_write_usd_per_mtok"),
        cache_write_1h_nano_usd_per_mtok: nano(&section, "cache_write_1h_usd_per_mtok"),
        reasoning_nano_usd_per_mtok: nano(&section, "reasoning_usd_per_mtok"),
        audio_input_nano_usd_per_mtok: nano(&section, "audio_input_usd_per_mtok"),
        audio_output_nano_usd_per_mtok: nano(&section, "audio_output_usd_per_mtok"),
        image_input_nano_usd_per_mtok: nano(&section, "image_input_usd_per_mtok"),
        batch: batch(&section),
        request_nano_usd: request.map_or(0, |usd| (usd.value * 1e9).round() as u64),
        long_prompt: section.section("long_prompt").and_then(long_prompt),
    };
    section.finish();
    (input.is_some() && output.is_some()).then_some(price)
}

/// Both prices of a batch, or none.
fn batch(section: &Section<'_>) -> Option<BatchPrice> {
    let input = nano(section, "batch_input_usd_per_mtok");
    let output = nano(section, "batch_output_usd_per_mtok");
    if input.is_some() != output.is_some() {
        let message = "a batch has both prices: `batch_input_usd_per_mtok` and \
                       `batch_output_usd_per_mtok`";
        section.error(section.span(), "", message.to_owned(), None);
    }
    let (input_nano_usd_per_mtok, output_nano_usd_per_mtok) = input.zip(output)?;
    Some(BatchPrice { input_nano_usd_per_mtok, output_nano_usd_per_mtok })
}

fn long_prompt(section: Section<'_>) -> Option<LongPrompt> {
    let above = section.integer("above_prompt_tokens", 1..=u64::from(u32::MAX));
    if above.is_none() {
        let message = "`above_prompt_tokens` says from where on these prices hold".to_owned();
        section.error(section.span(), "", message, None);
    }
    let (input, output) = input_and_output(&section);
    let long = LongPrompt {
        above_prompt_tokens: above.unwrap_or(0),
        input_nano_usd_per_mtok: input.unwrap_or(0),
        output_nano_usd_per_mtok: output.unwrap_or(0),
        cached_input_nano_usd_per_mtok: nano(&section, "cached_input_usd_per_mtok"),
        cache_write_nano_usd_per_mtok: nano(&section, "cache_write_usd_per_mtok"),
        cache_write_1h_nano_usd_per_mtok: nano(&section, "cache_write_1h_usd_per_mtok"),
    };
    section.finish();
    (above.is_some() && input.is_some() && output.is_some()).then_some(long)
}

/// Both, or an error that says so.
fn input_and_output(section: &Section<'_>) -> (Option<u64>, Option<u64>) {
    let input = nano(section, "input_usd_per_mtok");
    let output = nano(section, "output_usd_per_mtok");
    if input.is_none() || output.is_none() {
        let message = "a price needs `input_usd_per_mtok` and `output_usd_per_mtok`".to_owned();
        section.error(section.span(), "", message, None);
    }
    (input, output)
}
