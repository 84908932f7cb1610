import { Argument, Command, Option } from 'commander'
import { packageVersion } from '../primitives/version.ts'
import { addBatchCommands } from './batch-program.ts'
import { addJobCommands } from './job-program.ts'
import { addKeyCommands } from './key-program.ts'
import { addOperationCommands } from './operation-program.ts'
import {
  configOption,
  jsonOption,
  lazily,
  nameListOption,
  processesOption,
  unusedConfigOption,
} from './program-options.ts'
import { addScheduleCommands } from './schedule-program.ts'
import { addWebhookCommands } from './webhook-program.ts'

const oneProcessWarning =
  'not recommended: a handler that blocks the event loop delays every request, and a crash stops API and worker'

/** Creates the command-line program, which loads the code of a command only when it runs. */
export function createProgram(): Command {
  const program = new Command('accepted')
    .description(
      'Postgres-native job system for HTTP APIs. Settings are environment variables, such as DATABASE_URL and PORT.',
    )
    .version(packageVersion(), '-v, --version', 'Show the version')
    .helpOption('-h, --help', 'Show help')
    .helpCommand('help [command]', 'Show help for a command')

  program
    .command('dev')
    .description('Run everything for development: migrations, API, worker, and Postgres if DATABASE_URL is not set')
    .addOption(configOption())
    .option('--watch', 'Restart API and worker when a source file of the app changes')
    .option('--in-process', `Run API and worker in one process (${oneProcessWarning})`)
    .action(async (options) => {
      // Imported only here, because the other commands need no embedded Postgres.
      const { devCommand } = await import('./dev-command.ts')
      process.exitCode = await devCommand(options, process.argv[1] as string)
    })

  program
    .command('api')
    .description('Serve the HTTP API')
    .addOption(configOption())
    .addOption(processesOption())
    .addOption(
      new Option('--with-worker', `Also run a worker in this process (${oneProcessWarning})`).conflicts('processes'),
    )
    .action(lazily(async () => (await import('./api-command.ts')).apiCommand))

  program
    .command('worker')
    .description('Claim and run jobs')
    .addOption(configOption())
    .addOption(processesOption())
    .addOption(
      nameListOption('--operations <names>', 'Claim only jobs of these operations, separated by commas (default: all)'),
    )
    .action(lazily(async () => (await import('./worker-command.ts')).workerCommand))

  program
    .command('migrate')
    .description('Apply all pending migrations: first of the queue, then of Accepted, then of the app')
    .addOption(configOption())
    .option('--dry-run', 'Only print the SQL of the pending migrations, for psql, and change nothing')
    .option('--roles', 'Only print the SQL with which a DBA creates the roles and schemas; needs no database')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./migrate-command.ts')).migrateCommand))

  program
    .command('doctor')
    .description('Find problems of the server, the schema and the jobs; the exit code is 1 if there are errors')
    .addOption(new Option('--config <file>', 'Configuration file, to check also the migrations of the app'))
    .option('--verbose', 'Also print what was checked')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./doctor-command.ts')).doctorCommand))

  addJobCommands(program)
  addBatchCommands(program)
  addOperationCommands(program)
  addScheduleCommands(program)
  addKeyCommands(program)
  addWebhookCommands(program)
  addSetupCommands(program)
  addUnusedConfig(program)
  return program
}

/** Adds `--config` to the commands that read no configuration. */
function addUnusedConfig(command: Command): void {
  for (const child of command.commands) addUnusedConfig(child as Command)
  const takesConfig = command.options.some(({ long }) => long === '--config')
  if (command.commands.length === 0 && !takesConfig) command.addOption(unusedConfigOption())
}

function addSetupCommands(program: Command): void {
  program
    .command('init')
    .description('Create a minimal app in the current or a new directory')
    .argument('[directory]', 'Default: the current directory')
    .addOption(jsonOption())
    .action(async (directory, options) => {
      const { initCommand } = await import('./init-command.ts')
      await initCommand(directory, options, process.cwd())
    })
  program
    .command('completion')
    .description('Print a script that completes commands, options and names of operations in a shell')
    .addArgument(new Argument('<shell>', 'The shell').choices(['bash', 'zsh', 'fish']))
    .addHelpText('after', '\nIn ~/.bashrc, for example: eval "$(accepted completion bash)"')
    .action(lazily(async () => (await import('./completion-command.ts')).completionCommand))
  program.command('__complete [words...]', { hidden: true }).action(async (words: string[]) => {
    const { completeCommand } = await import('./completion-command.ts')
    await completeCommand(program, words)
  })
}
