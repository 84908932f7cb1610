import type { Command } from 'commander'
import { addListOptions, configOption, jsonOption, lazily } from './program-options.ts'

/** Adds `accepted batches` and its commands. */
export function addBatchCommands(program: Command): void {
  const batches = program.command('batches').description('Submit, list and watch batches: jobs that belong together')
  addListOptions(
    batches
      .command('list')
      .description('List the batches of all principals, newest first')
      .option('--status <status>', 'Only batches with this status: queued, running, succeeded, failed or canceled')
      .option('--principal <name>', 'Only batches of this principal')
      .option('--since <time>', 'Only batches accepted in this period (24h, 30m) or since this time')
      .option('--limit <n>', 'Maximum number of batches (default: 20)'),
  ).action(lazily(async () => (await import('./batch-list.ts')).listBatchesCommand))
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
    .option('--json', 'Print a line of JSON for each change')
    .action(lazily(async () => (await import('./batch-watch.ts')).watchBatchCommand))
}
