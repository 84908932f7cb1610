import { Command, Option } from 'commander'
import { eventTypes } from '../jobs/webhook-schema.ts'
import { packageVersion } from '../primitives/version.ts'
import { flushOutput } from './flush-output.ts'
import { formatError } from './format-error.ts'
import { addKeyCommands } from './key-program.ts'
import { configOption, jsonOption, lazily, nameListOption } from './program-options.ts'

const oneProcessWarning =
  'not recommended: a handler that blocks the event loop delays every request, and a crash stops API and worker'

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
  .option('--with-worker', `Also run a worker in this process (${oneProcessWarning})`)
  .action(lazily(async () => (await import('./api-command.ts')).apiCommand))

program
  .command('worker')
  .description('Claim and run jobs')
  .addOption(configOption())
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

addKeyCommands(program)

const jobs = program.command('jobs').description('List, cancel and retry jobs')
jobs
  .command('list')
  .description('List the jobs of all principals, newest first')
  .option('--status <status>', 'Only jobs with this status: queued, running, succeeded, failed or canceled')
  .option('--operation <name>', 'Only jobs of this operation')
  .option('--limit <n>', 'Maximum number of jobs (default: 20)')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./job-commands.ts')).listJobsCommand))
jobs
  .command('redrive')
  .description('Run failed jobs again, as new jobs; jobs that already have a retry are skipped')
  .addOption(configOption())
  .option('--operation <name>', 'Only jobs of this operation')
  .option('--since <time>', 'Only jobs that failed in this period (24h, 30m) or since this time (2027-02-14T12:00:00Z)')
  .option('--error <code>', 'Only jobs with this error code')
  .option('--limit <n>', 'Maximum number of new jobs; the oldest failed jobs come first (default: unlimited)')
  .option('--dry-run', 'Only count the failed jobs, and do not run them again')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./job-commands.ts')).redriveJobsCommand))

jobs
  .command('cancel <id>')
  .description('Cancel a job: a queued job immediately, a running job as soon as its handler stops')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./cancel-and-retry.ts')).cancelJobCommand))
jobs
  .command('retry <id>')
  .description('Run a failed or canceled job again, and print the id of the new job')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./cancel-and-retry.ts')).retryJobCommand))

const batches = program.command('batches').description('Submit and watch batches: jobs that belong together')
batches
  .command('submit <file>')
  .description('Enqueue the batch in a file of JSON or NDJSON, or in the standard input (-), and print its id')
  .addOption(configOption())
  .option('--principal <name>', 'Owner of the batch and of its jobs (default: anonymous)')
  .option('--key <key>', 'Idempotency key: a batch that is submitted twice with the same key is enqueued once')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./batch-submit.ts')).submitBatchCommand))
batches
  .command('show <id>')
  .description('Show how many jobs of a batch have ended, and which have failed')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./batch-show.ts')).showBatchCommand))
batches
  .command('watch <id>')
  .description('Show the progress of a batch until it ends; the exit code is 1 if it does not succeed')
  .addOption(new Option('--json', 'Print a line of JSON for each change'))
  .action(lazily(async () => (await import('./batch-watch.ts')).watchBatchCommand))

const operations = program.command('operations').description('List, pause and resume operations')
operations
  .command('list')
  .description('List the operations, with their waiting and running jobs, workers and pauses')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./operation-commands.ts')).listOperationsCommand))
operations
  .command('pause <name>')
  .description('Let workers start no jobs of an operation; requests are still accepted')
  .option('--reason <text>', 'The reason, which `operations list` shows')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./operation-commands.ts')).pauseOperationCommand))
operations
  .command('resume <name>')
  .description('Let workers start the jobs of a paused operation again')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./operation-commands.ts')).resumeOperationCommand))

const webhooks = program.command('webhooks').description('Manage webhook endpoints, which are notified when jobs end')
webhooks
  .command('add <url>')
  .description('Register an endpoint and print its signing secret; the secret cannot be shown again')
  .addOption(configOption())
  .addOption(
    nameListOption(
      '--events <types>',
      `Send only these events, separated by commas (default: ${eventTypes.join(',')})`,
    ),
  )
  .addOption(
    nameListOption('--operations <names>', 'Send only events of these operations, separated by commas (default: all)'),
  )
  .option('--principal <name>', 'Send only events of the jobs of this principal (default: of all principals)')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-commands.ts')).addWebhookCommand))
webhooks
  .command('list')
  .description('List webhook endpoints, without their secrets')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-commands.ts')).listWebhooksCommand))
webhooks
  .command('rotate <id>')
  .description(
    'Replace the signing secret of an endpoint; for 24 hours, deliveries are also signed with the previous secret',
  )
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-commands.ts')).rotateWebhookCommand))
webhooks
  .command('log [endpoint]')
  .description('List the last attempts to deliver, newest first, with the answers of the endpoints')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-log.ts')).logWebhooksCommand))
webhooks
  .command('test <id>')
  .description('Deliver an event of the type accepted.test to an endpoint')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-log.ts')).testWebhookCommand))
webhooks
  .command('resend <delivery>')
  .description('Deliver an event once more, with the same webhook-id')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-log.ts')).resendWebhookCommand))
webhooks
  .command('rekey')
  .description('Encrypt all signing secrets with the first key of ENCRYPTION_KEYS, also those stored in clear')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-commands.ts')).rekeyWebhooksCommand))
webhooks
  .command('remove <id>')
  .description('Remove an endpoint; its pending deliveries fail')
  .addOption(jsonOption())
  .action(lazily(async () => (await import('./webhook-commands.ts')).removeWebhookCommand))

try {
  await program.parseAsync()
} catch (error) {
  console.error(`error: ${formatError(error)}`)
  process.exitCode = 1
}
await flushOutput()
// A connection or timer that the app left open must not keep the process alive.
process.exit()
