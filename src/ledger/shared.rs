//! Meters that several gateways share, in Redis.
//!
//! The same arithmetic as in [`super::meter`], in one script a reservation, so that no other
//! gateway comes between. A meter is a hash: `u:SLOT` is what was used in a slot of its window,
//! `r:GATEWAY` what a gateway has reserved. Every gateway says every two seconds that it lives;
//! what a gateway has reserved that has been silent for [`DEAD_AFTER`] no longer counts. What was
//! used is sent by a task, summed up: when Redis is away the sums wait, and they never grow beyond
//! one for each meter and slot. Each batch has a number, so that one that is sent again counts
//! once; and where Redis does not remember the last one that it took, it has lost its memory, and
//! what waits is in the ledger, from which the meters are told their past anew.
//!
//! Amounts are compared as 64-bit floats (Lua has no other numbers): exact up to 9 million
//! dollars in nano-dollars. They are added as integers.

use std::{
    collections::{HashMap, HashSet},
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    Client, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::{Notify, oneshot};

use super::{
    budget::Budget,
    meter::{View, Warning},
    now_ms,
};

/// A gateway that has been silent for so long is dead: what it had reserved is free.
pub const DEAD_AFTER: Duration = Duration::from_secs(10);
/// How often a gateway says that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// How long an answer of Redis is waited for before it counts as away.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long what was used may wait for the next batch (chosen: far below a budget's windows).
const SEND_EVERY: Duration = Duration::from_millis(5);
/// How long a conversation is remembered after its last turn, in seconds, as in each gateway.
const SESSION_S: u64 = 60 * 60;
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// `[redis]`
#[derive(Clone, PartialEq)]
pub struct RedisSettings {
    /// `redis://…`; may hold a password: never shown.
    pub url: String,
    /// What every name in Redis begins with.
    pub prefix: String,
    /// Whether requests go on while Redis is away, each gateway with its share of what is left.
    pub fail_open: bool,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { prefix, fail_open, .. } = self;
        f.debug_struct("RedisSettings")
            .field("prefix", prefix)
            .field("fail_open", fail_open)
            .finish_non_exhaustive()
    }
}

/// This gateway's side of the shared meters.
#[derive(Debug)]
pub struct Shared {
    settings: RedisSettings,
    connection: ConnectionManager,
    gateway: String,
    reserve: Script,
    settle: Script,
    waiting: Mutex<Waiting>,
    wake: Notify,
    down: AtomicBool,
    /// Whether this outage's share has been taken.
    has_share: AtomicBool,
    gateways: AtomicUsize,
    batches: AtomicU64,
    /// The last batch that Redis took.
    acknowledged: AtomicU64,
    /// Whether Redis has lost its memory since somebody asked.
    forgot: AtomicBool,
}

/// Sums that Redis does not have yet.
#[derive(Debug, Default)]
struct Waiting {
    /// What is given back, by meter.
    released: HashMap<String, i64>,
    /// What was used, by meter and slot, and the meter as it was last seen.
    used: HashMap<(String, i64), (i64, View)>,
    /// What conversations' next turns must know, by the conversation.
    sessions: HashMap<u64, String>,
}

/// Conversations that may wait for Redis; more are forgotten by the other gateways.
const MAX_SESSIONS: usize = 10_000;

/// Why a reservation was not made.
#[derive(Debug)]
pub enum SharedError {
    /// The meter at this place of the list cannot take it.
    Refused {
        /// Its place.
        place: usize,
        /// What it could still give.
        left: i64,
        /// What is needed.
        needed: i64,
        /// The oldest slot in which something was used.
        oldest_ms: Option<i64>,
        /// What requests in flight may need of it.
        reserved: i64,
    },
    /// Redis does not know the past of the meter at this place.
    Unknown(usize),
    /// Redis is away.
    Down(String),
}

/// What a meter has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The amount that is reserved.
    pub amount: i64,
    /// What is left after it.
    pub left: i64,
}

/// `KEYS`: the gateways' signs of life, a hash for each meter, and one for each that something is
/// given back to first. `ARGV`: now, the gateway, the number of meters, then for each meter: amount,
/// whether it binds, wanted, least, the first slot that counts, what is kept for others; then what
/// is given back.
const RESERVE: &str = r"
local now, gateway, count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local taken, lefts = {}, {}
for i = 1, #KEYS - 1 - count do
  local key, field = KEYS[1 + count + i], 'r:' .. gateway
  local held = tonumber(redis.call('HGET', key, field) or '0')
  local back = math.min(held, tonumber(ARGV[3 + count * 6 + i]))
  redis.call('HINCRBY', key, field, string.format('%.0f', -back))
end
for i = 1, count do
  local key, at = KEYS[i + 1], 3 + (i - 1) * 6
  local cap, hard = tonumber(ARGV[at + 1]), ARGV[at + 2] == '1'
  local wanted, least = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local since, kept = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local all = redis.call('HGETALL', key)
  local seeded, used, reserved, oldest = false, 0, 0, false
  for j = 1, #all, 2 do
    local field, value = all[j], tonumber(all[j + 1])
    local kind, name = string.sub(field, 1, 2), string.sub(field, 3)
    if field == 'seeded' then
      seeded = true
    elseif kind == 'u:' then
      local slot = tonumber(name)
      if slot >= since then
        used = used + value
        if value > 0 and (not oldest or slot < oldest) then oldest = slot end
      else
        redis.call('HDEL', key, field)
      end
    elseif kind == 'r:' then
      local alive = redis.call('ZSCORE', KEYS[1], name)
      if alive and tonumber(alive) >= now then
        reserved = reserved + value
      else
        redis.call('HDEL', key, field)
      end
    end
  end
  if not seeded then return {-1, i} end
  local left, take = cap - used - reserved - kept, wanted
  if hard and wanted > left then
    if least < wanted and math.max(least, 1) <= left then
      take = left
    else
      return {0, i, left, math.max(least, 1), oldest or -1, reserved}
    end
  end
  taken[i], lefts[i] = take, left - take
end
local answer = {1}
for i = 1, count do
  redis.call('HINCRBY', KEYS[i + 1], 'r:' .. gateway, string.format('%.0f', taken[i]))
  answer[i * 2] = taken[i]
  answer[i * 2 + 1] = lefts[i]
end
return answer
";

/// `KEYS`: the batches' numbers, then a hash for each change. `ARGV`: the gateway, the batch, the one
/// that was taken last, then for each change: the slot or an empty text for a release, the amount,
/// the milliseconds after which the meter may be forgotten (0: never), the meter's amount, the shares
/// to warn at in percent with commas between, the window they are told once for, the first slot that
/// counts. Answers a place, a share and what is used for each share that is passed; or -1, and
/// nothing is counted, where the batches' numbers are gone. What was used of a meter whose past
/// nobody has told is told with it.
const SETTLE: &str = r"
local gateway, batch = ARGV[1], tonumber(ARGV[2])
local last = tonumber(redis.call('HGET', KEYS[1], gateway) or '0')
if batch <= last then return {} end
redis.call('HSET', KEYS[1], gateway, batch)
if last < tonumber(ARGV[3]) then return {-1} end
local warnings = {}
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 7
  local slot, amount, forget = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  if slot == '' then
    local field = 'r:' .. gateway
    local held = tonumber(redis.call('HGET', KEYS[i], field) or '0')
    if held <= tonumber(amount) then
      redis.call('HDEL', KEYS[i], field)
    else
      redis.call('HINCRBY', KEYS[i], field, '-' .. amount)
    end
  elseif redis.call('HEXISTS', KEYS[i], 'seeded') == 1 then
    redis.call('HINCRBY', KEYS[i], 'u:' .. slot, amount)
  end
  if ARGV[at + 5] ~= '' then
    local cap, since, used = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 7]), 0
    local all = redis.call('HGETALL', KEYS[i])
    for j = 1, #all, 2 do
      if string.sub(all[j], 1, 2) == 'u:' and tonumber(string.sub(all[j], 3)) >= since then
        used = used + tonumber(all[j + 1])
      end
    end
    local told = redis.call('HMGET', KEYS[i], 'warned', 'warned_in')
    local highest = told[2] == ARGV[at + 6] and tonumber(told[1]) or 0
    local passed = 0
    for percent in string.gmatch(ARGV[at + 5], '%d+') do
      local share = tonumber(percent)
      if share > math.max(passed, highest) and used * 100 >= cap * share then passed = share end
    end
    if passed > 0 then
      redis.call('HSET', KEYS[i], 'warned', passed, 'warned_in', ARGV[at + 6])
      for _, value in ipairs({i - 2, passed, used}) do table.insert(warnings, value) end
    end
  end
  if forget > 0 then redis.call('PEXPIRE', KEYS[i], forget) end
end
return warnings
";

impl Shared {
    /// Connects; fails when Redis cannot be reached at all.
    pub async fn open(settings: RedisSettings) -> Result<Arc<Self>, redis::RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(TIMEOUT))
            .set_connection_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        let client = Client::open(settings.url.as_str())?;
        let connection = ConnectionManager::new_with_config(client, config).await?;
        let shared = Arc::new(Self {
            settings,
            connection,
            gateway: uuid::Uuid::now_v7().simple().to_string(),
            reserve: Script::new(RESERVE),
            settle: Script::new(SETTLE),
            waiting: Mutex::default(),
            wake: Notify::new(),
            down: AtomicBool::new(false),
            has_share: AtomicBool::new(false),
            gateways: AtomicUsize::new(1),
            batches: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            forgot: AtomicBool::new(false),
        });
        shared.say_alive().await?;
        Ok(shared)
    }

    /// The settings.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// Whether Redis is away.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether requests are counted here alone for now.
    pub fn goes_alone(&self) -> bool {
        self.is_down() && self.settings.fail_open
    }

    /// Whether this gateway has taken its share since Redis went away.
    pub fn has_share(&self) -> bool {
        self.has_share.load(Ordering::Relaxed)
    }

    /// This gateway has taken its share.
    pub fn took_share(&self) {
        self.has_share.store(true, Ordering::Relaxed);
    }

    /// How many gateways lived when last heard of, this one included.
    pub fn gateways(&self) -> usize {
        self.gateways.load(Ordering::Relaxed).max(1)
    }

    fn name(&self, what: &str) -> String {
        format!("{}:{what}", self.settings.prefix)
    }

    fn meter(&self, view: &View) -> String {
        format!("{}:meter:{}", self.settings.prefix, view.key)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves at every meter, or at none. `demands` are wanted and least of each; `held` is given
    /// back first, whatever comes of the rest. A caller who does not wait for the answer has
    /// nothing reserved and nothing held.
    pub async fn reserve(
        self: &Arc<Self>,
        views: &[View],
        demands: &[(i64, i64)],
        held: &[(String, i64)],
    ) -> Result<Vec<Granted>, SharedError> {
        let (shared, views) = (Arc::clone(self), views.to_vec());
        let (demands, held) = (demands.to_vec(), held.to_vec());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let answer = shared.ask(&views, &demands, &held).await;
            match tell.send(answer) {
                Ok(()) => {}
                Err(Ok(granted)) => shared.release(&shared.held(&views, &granted)),
                Err(Err(SharedError::Down(_))) => shared.release(&held),
                Err(Err(SharedError::Refused { .. } | SharedError::Unknown(_))) => {}
            }
        });
        told.await.unwrap_or_else(|_| Err(SharedError::Down("the gateway is stopping".to_owned())))
    }

    async fn ask(
        &self,
        views: &[View],
        demands: &[(i64, i64)],
        held: &[(String, i64)],
    ) -> Result<Vec<Granted>, SharedError> {
        let mut call = self.reserve.key(self.name("alive"));
        for view in views {
            call.key(self.meter(view));
        }
        for (meter, _) in held {
            call.key(meter);
        }
        call.arg(now_ms()).arg(&self.gateway).arg(views.len());
        for (view, (wanted, least)) in views.iter().zip(demands) {
            call.arg(view.amount).arg(i32::from(view.hard)).arg(wanted).arg(least);
            call.arg(view.since).arg(view.kept);
        }
        for (_, amount) in held {
            call.arg(amount);
        }
        let mut connection = self.connection.clone();
        let answer: Result<Vec<i64>, _> = call.invoke_async(&mut connection).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        let at = |place: usize| answer.get(place).copied();
        let place = || at(1).and_then(|i| usize::try_from(i - 1).ok()).unwrap_or(0);
        match at(0) {
            Some(1) => Ok(answer
                .get(1..)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|pair| Granted { amount: pair[0], left: pair[1] })
                .collect()),
            Some(0) => Err(SharedError::Refused {
                place: place(),
                left: at(2).unwrap_or(0),
                needed: at(3).unwrap_or(0),
                oldest_ms: at(4).filter(|oldest| *oldest >= 0),
                reserved: at(5).unwrap_or(0),
            }),
            Some(-1) => Err(SharedError::Unknown(place())),
            _ => Err(SharedError::Down("an answer that is none of ours".to_owned())),
        }
    }

    /// Tells Redis a meter's past, as far as it does not know it: the ledger may lack what was used
    /// in the last moments, and Redis what was used before it lost its memory.
    pub async fn seed(&self, view: &View, past: &[(i64, i64)]) -> Result<(), SharedError> {
        const SEED: &str = r"
            redis.call('HSET', KEYS[1], 'seeded', '1')
            for i = 1, #ARGV, 2 do
              local slot = 'u:' .. ARGV[i]
              local known = tonumber(redis.call('HGET', KEYS[1], slot) or '0')
              if known < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], slot, ARGV[i + 1]) end
            end
            return 1";
        let script = Script::new(SEED);
        let mut call = script.key(self.meter(view));
        for (slot, amount) in past {
            call.arg(slot).arg(amount);
        }
        let mut connection = self.connection.clone();
        let seeded: Result<i64, _> = call.invoke_async(&mut connection).await;
        seeded.map(drop).map_err(|error| self.failed(&error))
    }

    /// Whether Redis has lost its memory since the last time this was asked: then the meters' past
    /// has to be told again.
    pub fn has_forgotten(&self) -> bool {
        self.forgot.swap(false, Ordering::Relaxed)
    }

    /// The meters' past could not be told: [`Self::has_forgotten`] is true again.
    pub fn ask_again(&self) {
        self.forgot.store(true, Ordering::Relaxed);
    }

    /// Gives back what is reserved.
    pub fn release(&self, held: &[(String, i64)]) {
        if held.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        for (meter, amount) in held {
            *waiting.released.entry(meter.clone()).or_default() += amount;
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Notes what was used at each meter.
    pub fn used(&self, views: impl Iterator<Item = (View, i64)>) {
        let mut waiting = self.waiting();
        for (view, amount) in views {
            let place = (self.meter(&view), view.slot);
            let known = waiting.used.get(&place).map_or(0, |(sum, _)| *sum);
            waiting.used.insert(place, (known.saturating_add(amount), view));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// What all gateways have used of a meter and reserved; `None` while Redis does not know it.
    pub async fn state(&self, view: &View) -> Option<(i64, i64)> {
        let mut connection = self.connection.clone();
        let answer = redis::pipe()
            .hgetall(self.meter(view))
            .zrangebyscore(self.name("alive"), now_ms(), "+inf")
            .query_async(&mut connection)
            .await;
        let answer: Result<(HashMap<String, String>, HashSet<String>), _> = answer;
        let (fields, alive) = answer.map_err(|error| self.failed(&error)).ok()?;
        fields.contains_key("seeded").then_some(())?;
        let sum = |kind: &str, counts: &dyn Fn(&str) -> bool| -> i64 {
            let named = fields.iter().filter_map(|(name, value)| {
                let name = name.strip_prefix(kind)?;
                counts(name).then(|| value.parse::<i64>().ok()).flatten()
            });
            named.sum()
        };
        let used = sum("u:", &|slot| slot.parse().is_ok_and(|slot: i64| slot >= view.since));
        Some((used, sum("r:", &|gateway| alive.contains(gateway))))
    }

    /// Tells the other gateways something about a conversation.
    pub fn remember(&self, session: u64, text: String) {
        let mut waiting = self.waiting();
        if waiting.sessions.len() < MAX_SESSIONS {
            waiting.sessions.insert(session, text);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// What gateways have told about conversations, in the order of their keys; nothing while Redis
    /// is away.
    pub async fn recall(&self, sessions: impl Iterator<Item = u64>) -> Vec<Option<String>> {
        if self.is_down() {
            return Vec::new();
        }
        let mut connection = self.connection.clone();
        let names = sessions.map(|session| self.name(&format!("session:{session:016x}")));
        let names: Vec<_> = names.collect();
        let found = redis::cmd("MGET").arg(names).query_async(&mut connection).await;
        found.unwrap_or_else(|error| {
            drop(self.failed(&error));
            Vec::new()
        })
    }

    /// The names of what was granted, for [`Self::release`].
    pub fn held(&self, views: &[View], granted: &[Granted]) -> Vec<(String, i64)> {
        views
            .iter()
            .zip(granted)
            .map(|(view, granted)| (self.meter(view), granted.amount))
            .collect()
    }

    fn failed(&self, error: &redis::RedisError) -> SharedError {
        if !self.down.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, fail_open = self.settings.fail_open, "redis is away");
        }
        SharedError::Down(error.to_string())
    }

    async fn say_alive(&self) -> Result<(), redis::RedisError> {
        let (now, alive) = (now_ms(), self.name("alive"));
        let until = now + i64::try_from(DEAD_AFTER.as_millis()).unwrap_or(i64::MAX);
        let mut connection = self.connection.clone();
        // The dead are kept for a day, so that it can be seen that there were any.
        let (gateways,): (usize,) = redis::pipe()
            .zadd(&alive, &self.gateway, until)
            .ignore()
            .zrembyscore(&alive, 0, now - 24 * 60 * 60 * 1_000)
            .ignore()
            .zcount(&alive, now, i64::MAX)
            .query_async(&mut connection)
            .await?;
        self.gateways.store(gateways, Ordering::Relaxed);
        if self.down.swap(false, Ordering::Relaxed) {
            self.has_share.store(false, Ordering::Relaxed);
            tracing::info!(gateways, "redis is back");
        }
        Ok(())
    }

    /// Says that the gateway lives, and sends what was used, until it is aborted. What all gateways
    /// together have passed of a budget is told to the one whose use did.
    pub async fn run(self: Arc<Self>, warn: impl Fn(Vec<Warning>) + Send) {
        let mut alive = tokio::time::interval(ALIVE_EVERY);
        let mut unsent: Option<(u64, Waiting)> = None;
        loop {
            tokio::select! {
                _ = alive.tick() => {
                    if let Err(error) = self.say_alive().await {
                        drop(self.failed(&error));
                    }
                }
                () = self.wake.notified() => tokio::time::sleep(SEND_EVERY).await,
                () = tokio::time::sleep(PAUSE), if unsent.is_some() => {}
            }
            unsent = self.send(unsent, &warn).await;
        }
    }

    /// Sends what waits, once; for the end of the process.
    pub async fn last_words(&self, warn: impl Fn(Vec<Warning>)) {
        drop(self.send(None, &warn).await);
        let mut connection = self.connection.clone();
        let alive = self.name("alive");
        let left: Result<(), _> =
            redis::cmd("ZREM").arg(alive).arg(&self.gateway).query_async(&mut connection).await;
        if let Err(error) = left {
            tracing::warn!(%error, "redis does not know that the gateway has stopped");
        }
    }

    /// Tells what conversations have become. What cannot be told is told at their next turn.
    async fn send_sessions(&self) {
        let sessions = std::mem::take(&mut self.waiting().sessions);
        if sessions.is_empty() {
            return;
        }
        let mut pipe = redis::pipe();
        for (session, text) in sessions {
            let name = self.name(&format!("session:{session:016x}"));
            pipe.cmd("SET").arg(name).arg(text).arg("EX").arg(SESSION_S).ignore();
        }
        let mut connection = self.connection.clone();
        let sent: Result<(), _> = pipe.query_async(&mut connection).await;
        if let Err(error) = sent {
            drop(self.failed(&error));
        }
    }

    /// Sends the batch that failed, or the next one; returns it when it fails.
    async fn send(
        &self,
        unsent: Option<(u64, Waiting)>,
        warn: &impl Fn(Vec<Warning>),
    ) -> Option<(u64, Waiting)> {
        self.send_sessions().await;
        let (number, batch) = match unsent {
            Some(again) => again,
            None => {
                let mut waiting = self.waiting();
                let (released, used) = (take(&mut waiting.released), take(&mut waiting.used));
                drop(waiting);
                if released.is_empty() && used.is_empty() {
                    return None;
                }
                let batch = Waiting { released, used, sessions: HashMap::new() };
                (self.batches.fetch_add(1, Ordering::Relaxed) + 1, batch)
            }
        };
        let mut call = self.settle.key(self.name("batches"));
        // What is used counts before what was reserved for it is free.
        for name in batch.used.keys().map(|(name, _)| name).chain(batch.released.keys()) {
            call.key(name);
        }
        call.arg(&self.gateway).arg(number).arg(self.acknowledged.load(Ordering::Relaxed));
        for ((_, slot), (amount, view)) in &batch.used {
            let percents: Vec<_> =
                view.budget.warn_at_percent.iter().map(ToString::to_string).collect();
            call.arg(slot).arg(amount).arg(view.forget_ms).arg(view.amount);
            call.arg(percents.join(",")).arg(view.epoch).arg(view.since);
        }
        for amount in batch.released.values() {
            call.arg("").arg(amount).arg(0).arg("").arg("").arg("").arg("");
        }
        let mut connection = self.connection.clone();
        let sent: Result<Vec<i64>, _> = call.invoke_async(&mut connection).await;
        match sent {
            Ok(answer) if answer == [-1] => {
                self.acknowledged.store(number, Ordering::Relaxed);
                let mut waiting = self.waiting();
                drop((take(&mut waiting.released), take(&mut waiting.used)));
                drop(waiting);
                self.forgot.store(true, Ordering::Relaxed);
                tracing::warn!("redis has lost its memory: the ledger tells what was used");
                None
            }
            Ok(passed) => {
                self.acknowledged.store(number, Ordering::Relaxed);
                let budgets: Vec<_> = batch.used.values().map(|(_, view)| &view.budget).collect();
                warn(warnings(&passed, &budgets));
                None
            }
            Err(error) => {
                drop(self.failed(&error));
                Some((number, batch))
            }
        }
    }
}

/// The warnings in the answer of [`SETTLE`].
fn warnings(passed: &[i64], budgets: &[&Arc<Budget>]) -> Vec<Warning> {
    let read = |triple: &[i64]| {
        let &[place, percent, used] = triple else { return None };
        let budget = Arc::clone(budgets.get(usize::try_from(place).ok()?)?);
        Some(Warning { budget, percent: u8::try_from(percent).ok()?, used })
    };
    passed.chunks_exact(3).filter_map(read).collect()
}
