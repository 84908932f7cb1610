#!/usr/bin/env node
import { Command, Option } from 'commander'
import { api } from './api.ts'
import { listJobs, redriveJobs } from './jobs.ts'
import { addKey, listKeys, revokeKey } from './keys.ts'
import { migrate } from './migrate.ts'
import { addWebhook, listWebhooks, removeWebhook, rotateWebhook } from './webhooks.ts'
import { worker } from './worker.ts'

const config = () => new Option('--config <file>', 'the configuration (default: ./accepted.config.ts)')
const names = (list: string) => list.split(',').map((name) => name.trim())

const least =
  'the least recommended way: a handler that hogs the event loop keeps requests waiting, and a crash takes both'

const program = new Command('accepted').description(
  'The Postgres-native job system for HTTP APIs. Settings come from the environment; `accepted <command> --help`.',
)

program
  .command('dev')
  .description('a Postgres of its own if DATABASE_URL is not set, migrations, API and worker')
  .addOption(config())
  .option('--in-process', `API and worker in one process, ${least}`)
  .action(async (options) => {
    // Nothing else needs an embedded Postgres.
    const { dev } = await import('./dev.ts')
    process.exitCode = await dev(options, process.argv[1] as string)
  })

program
  .command('api')
  .description('serve HTTP')
  .addOption(config())
  .option('--with-worker', `a worker in the same process, ${least}`)
  .action(api)

program
  .command('worker')
  .description('claim, perform and settle jobs')
  .addOption(config())
  .addOption(new Option('--operations <names>', 'only these, separated by commas').argParser(names))
  .action(worker)

program
  .command('migrate')
  .description("bring the database up to date: the queue's schema, ours, then the app's")
  .addOption(config())
  .option('--json', 'for machines')
  .action(migrate)

const keys = program.command('keys').description('API keys: as long as there is none, everybody is anonymous')
keys
  .command('add <name>')
  .description('make a key; it is shown this once')
  .option('--principal <name>', 'who a request with it is (default: the name)')
  .option('--admin', 'it may register webhooks, too')
  .option('--json', 'for machines')
  .action(addKey)
keys.command('list').description('every key, without the key').option('--json', 'for machines').action(listKeys)
keys.command('revoke <id>').description('refuse a key from now on').option('--json', 'for machines').action(revokeKey)

const jobs = program.command('jobs').description("everybody's jobs; failed ones wait here to be redriven")
jobs
  .command('list')
  .description('newest first')
  .option('--state <state>', 'only queued, running, succeeded, failed or canceled ones')
  .option('--operation <name>', 'only of this operation')
  .option('--limit <n>', 'so many at most (default: 20)')
  .option('--json', 'for machines')
  .action(listJobs)
jobs
  .command('redrive')
  .description('run failed jobs again, as new jobs; doing it twice changes nothing')
  .addOption(config())
  .option('--operation <name>', 'only of this operation')
  .option('--since <time>', 'only what has failed since then: 24h, 30m, 2027-02-14T12:00:00Z')
  .option('--error <code>', 'only with this error code')
  .option('--limit <n>', 'so many at most, oldest first')
  .option('--dry-run', 'count them only')
  .option('--json', 'for machines')
  .action(redriveJobs)

const webhooks = program.command('webhooks').description('endpoints that are told when jobs end')
webhooks
  .command('add <url>')
  .description('register an endpoint; its signing secret is shown this once')
  .addOption(config())
  .addOption(new Option('--events <types>', 'only these, separated by commas').argParser(names))
  .addOption(new Option('--operations <names>', 'only of these, separated by commas').argParser(names))
  .option('--json', 'for machines')
  .action(addWebhook)
webhooks
  .command('list')
  .description('every endpoint, without its secrets')
  .option('--json', 'for machines')
  .action(listWebhooks)
webhooks
  .command('rotate <id>')
  .description('a new secret; the one before goes on signing for a day')
  .option('--json', 'for machines')
  .action(rotateWebhook)
webhooks
  .command('remove <id>')
  .description('tell an endpoint nothing more')
  .option('--json', 'for machines')
  .action(removeWebhook)

try {
  await program.parseAsync()
} catch (error) {
  console.error(`error: ${sentence(error)}`)
  process.exitCode = 1
}
// What an app left open must not keep a stopped process alive.
process.exit()

function sentence(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code, port } = error as NodeJS.ErrnoException & { port?: number }
  if (code === 'EADDRINUSE') {
    return `Port ${port} is taken; stop what listens there, or choose another with PORT or WORKER_PORT.`
  }
  if (code === 'ECONNREFUSED') return `Postgres does not answer at the address in DATABASE_URL (${error.message}).`
  return process.env.LOG_LEVEL === 'debug' ? (error.stack ?? error.message) : error.message
}
