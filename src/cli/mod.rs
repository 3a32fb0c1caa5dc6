//! Commands and flags. Names and flags are a contract: scripts depend on them.

mod calibrate;
mod check;
mod eval;
mod inputs;
mod ledger;
mod models;
mod replay;
mod score;
mod serve;
mod table;
mod train;
mod tune;
mod workers;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};

/// A self-hosted LLM gateway that weighs every request and sends it to the cheapest model that
/// can carry it.
///
/// Without a command it serves. Without a configuration it finds providers from the usual
/// environment variables (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, GROQ_API_KEY,
/// MISTRAL_API_KEY, DEEPSEEK_API_KEY, XAI_API_KEY, TOGETHER_API_KEY) and a local Ollama; with none
/// of them it serves a scripted upstream, so that a first request can be tried at once.
#[derive(Parser)]
#[command(
    name = "weighbridge",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Start with:\n  weighbridge\n  curl localhost:8080/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{\"model\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}' -i"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the gateway (the default)
    Serve(serve::ServeArgs),
    /// Score texts and show where they would go, without forwarding anything
    Score(score::ScoreArgs),
    /// Check a configuration: every error with line, column and a suggestion
    Check(ConfigArg),
    /// Write a commented configuration to start from
    Init(InitArgs),
    /// List models with price, window and abilities; refresh the catalogue of them
    Models(models::ModelsArgs),
    /// Serve the scripted upstream, which stands in for a provider and fails on request
    Mock(MockArgs),
    /// Judge how well scores route labelled prompts
    Eval(Box<eval::EvalArgs>),
    /// Train a head on labelled prompts
    Train(train::TrainArgs),
    /// Find thresholds for a goal, with what they promise on unseen rows
    Tune(tune::TuneArgs),
    /// Replay recorded decisions under a configuration and show what would change
    Replay(replay::ReplayArgs),
    /// Place a model on the scale of the score from some tens of its answers
    CalibrateModel(calibrate::CalibrateArgs),
    /// Hand out, change, rotate and revoke keys
    Keys(ledger::keys::KeysArgs),
    /// Organisations, which teams and projects belong to
    Organisations(ledger::groups::GroupsArgs<ledger::groups::OfNothing>),
    /// Teams, which projects and keys belong to
    Teams(ledger::groups::GroupsArgs<ledger::groups::OfOrganisation>),
    /// Projects, which keys belong to
    Projects(ledger::groups::GroupsArgs<ledger::groups::OfTeam>),
    /// What keys, projects, teams, organisations and models may spend
    Budgets(ledger::budgets::BudgetsArgs),
    /// What was spent, by key, model, time or any other dimension
    Spend(ledger::spend::SpendArgs),
    /// What was used: requests, tokens by kind, failures
    Usage(ledger::spend::SpendArgs),
    /// Who changed which key, group or budget
    Audit(ledger::audit::AuditArgs),
    /// Print shell completions
    Completions {
        /// The shell to print them for
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff
    Man,
}

/// Where the configuration is.
#[derive(Args, Clone)]
struct ConfigArg {
    /// Configuration file [default: weighbridge.toml if it is there]
    #[arg(long, value_name = "FILE", env = "WEIGHBRIDGE_CONFIG")]
    config: Option<PathBuf>,
}

/// Which classifier.
#[derive(Args, Clone)]
struct ModelArg {
    /// Model directory, or with feature `hub` a Hugging Face name [default: the one inside]
    #[arg(long, value_name = "PATH")]
    model: Option<String>,
    /// Where the encoder computes: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

#[derive(Args)]
struct InitArgs {
    /// Where to write it; `-` for standard output
    #[arg(value_name = "FILE", default_value = "weighbridge.toml")]
    file: PathBuf,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
#[command(after_help = crate::mock::directives_help())]
struct MockArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

/// Runs the program; the exit status is 0, 1 for work that partly failed, 2 for wrong usage.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // TLS by ring, for every client in the process. Nobody else chooses, so this cannot fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::serve(args),
        Command::Score(args) => score::score(args),
        Command::Check(args) => check::check(&args),
        Command::Init(args) => check::init(&args),
        Command::Models(args) => models::models(&args),
        Command::Mock(args) => serve::mock(&args),
        Command::Eval(args) => eval::eval(*args),
        Command::Train(args) => train::train(args),
        Command::Tune(args) => tune::tune(args),
        Command::Replay(args) => replay::replay(args),
        Command::CalibrateModel(args) => calibrate::calibrate(args),
        Command::Keys(args) => ledger::keys::keys(&args),
        Command::Organisations(args) => ledger::groups::groups(&args),
        Command::Teams(args) => ledger::groups::groups(&args),
        Command::Projects(args) => ledger::groups::groups(&args),
        Command::Budgets(args) => ledger::budgets::budgets(&args),
        Command::Spend(args) => ledger::spend::spend(&args),
        Command::Usage(args) => ledger::spend::usage(&args),
        Command::Audit(args) => ledger::audit::audit(&args),
        Command::Completions { shell } => {
            let name = "weighbridge";
            clap_complete::generate(shell, &mut Cli::command(), name, &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => manual(),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weighbridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One page for the program and one section a command.
fn manual() -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    let mut out = std::io::stdout().lock();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for sub in command.get_subcommands() {
        clap_mangen::Man::new(sub.clone()).render(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The reader of our output has gone (`| head`): no error of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
