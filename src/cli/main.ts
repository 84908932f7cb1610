#!/usr/bin/env node
import { Command, Option } from 'commander'
import { eventTypes } from '../jobs/webhook-endpoint.ts'
import { api } from './api.ts'
import { describeError } from './describe-error.ts'
import { listJobs, redriveJobs } from './jobs.ts'
import { addKey, listKeys, revokeKey } from './keys.ts'
import { migrate } from './migrate.ts'
import { addWebhook, listWebhooks, removeWebhook, rotateWebhook } from './webhooks.ts'
import { worker } from './worker.ts'

const config = () => new Option('--config <file>', 'Configuration file (default: ./accepted.config.ts)')
const json = () => new Option('--json', 'Print JSON')
const parseNames = (list: string) => list.split(',').map((name) => name.trim())
const nameList = (flags: string, description: string) => new Option(flags, description).argParser(parseNames)

const leastRecommended =
  'least recommended: a handler that blocks the event loop delays every request, and a crash ends both'

const program = new Command('accepted')
  .description(
    'Postgres-native job system for HTTP APIs. Settings are environment variables, such as DATABASE_URL and PORT.',
  )
  .helpOption('-h, --help', 'Show help')
  .helpCommand('help [command]', 'Show help for a command')

program
  .command('dev')
  .description('Run everything for development: Postgres if DATABASE_URL is not set, migrations, API and worker')
  .addOption(config())
  .option('--in-process', `Run API and worker in one process (${leastRecommended})`)
  .action(async (options) => {
    // The other commands need no embedded Postgres.
    const { dev } = await import('./dev.ts')
    process.exitCode = await dev(options, process.argv[1] as string)
  })

program
  .command('api')
  .description('Serve the HTTP API')
  .addOption(config())
  .option('--with-worker', `Also run a worker in this process (${leastRecommended})`)
  .action(api)

program
  .command('worker')
  .description('Claim and run jobs')
  .addOption(config())
  .addOption(nameList('--operations <names>', 'Claim only these operations, separated by commas (default: all)'))
  .action(worker)

program
  .command('migrate')
  .description("Migrate the database: the queue's schema, Accepted's, then the app's own migrations")
  .addOption(config())
  .addOption(json())
  .action(migrate)

const keys = program
  .command('keys')
  .description('Manage API keys; while there are none, all requests have the principal anonymous')
keys
  .command('add <name>')
  .description('Create an API key and print it; it is shown only once')
  .option('--principal <name>', 'Principal of the requests with this key (default: the name of the key)')
  .option('--admin', 'Give the key the scope admin, which manages webhook endpoints')
  .addOption(json())
  .action(addKey)
keys.command('list').description('List API keys, without their secrets').addOption(json()).action(listKeys)
keys.command('revoke <id>').description('Revoke an API key').addOption(json()).action(revokeKey)

const jobs = program.command('jobs').description('List jobs, and redrive failed ones')
jobs
  .command('list')
  .description('List the jobs of all principals, newest first')
  .option('--status <status>', 'Only jobs with this status: queued, running, succeeded, failed or canceled')
  .option('--operation <name>', 'Only jobs of this operation')
  .option('--limit <n>', 'Maximum number of jobs (default: 20)')
  .addOption(json())
  .action(listJobs)
jobs
  .command('redrive')
  .description('Run failed jobs again, as new jobs; jobs that already have a retry are skipped')
  .addOption(config())
  .option('--operation <name>', 'Only jobs of this operation')
  .option('--since <time>', 'Only jobs that failed since then: 24h, 30m or 2027-02-14T12:00:00Z')
  .option('--error <code>', 'Only jobs with this error code')
  .option('--limit <n>', 'Maximum number of new jobs, oldest first (default: unlimited)')
  .option('--dry-run', 'Count the jobs without running them')
  .addOption(json())
  .action(redriveJobs)

const webhooks = program.command('webhooks').description('Manage webhook endpoints, which are notified when jobs end')
webhooks
  .command('add <url>')
  .description('Register an endpoint and print its signing secret; it is shown only once')
  .addOption(config())
  .addOption(nameList('--events <types>', `Only these events (default: ${eventTypes.join(',')})`))
  .addOption(nameList('--operations <names>', 'Only jobs of these operations, separated by commas (default: all)'))
  .addOption(json())
  .action(addWebhook)
webhooks
  .command('list')
  .description('List webhook endpoints, without their secrets')
  .addOption(json())
  .action(listWebhooks)
webhooks
  .command('rotate <id>')
  .description('Replace the signing secret of an endpoint; the previous one also signs for 24 hours')
  .addOption(json())
  .action(rotateWebhook)
webhooks
  .command('remove <id>')
  .description('Remove an endpoint; its pending deliveries fail')
  .addOption(json())
  .action(removeWebhook)

try {
  await program.parseAsync()
} catch (error) {
  console.error(`error: ${describeError(error)}`)
  process.exitCode = 1
}
// Something that the app left open must not keep the process alive.
process.exit()
