import type { Command } from 'commander'
import { addListOptions, configOption, jsonOption, lazily } from './program-options.ts'

/** Adds `accepted jobs` and its commands. */
export function addJobCommands(program: Command): void {
  const jobs = program
    .command('jobs')
    .description('List, show, watch, cancel, retry, run, redrive, expire and forget jobs')
  addListOptions(
    jobs
      .command('list')
      .description('List the jobs of all principals, newest first')
      .option('--status <status>', 'Only jobs with this status: queued, running, succeeded, failed or canceled')
      .option('--operation <name>', 'Only jobs of this operation')
      .option('--principal <name>', 'Only jobs of this principal')
      .option(
        '--error <code>',
        'Only jobs that failed with this code; with --status queued or running, whose last attempt did',
      )
      .option('--resource <path>', 'Only jobs of this resource')
      .option('--key <key>', 'Only jobs with this idempotency key')
      .option('--parent <id>', 'Only the children of this job')
      .option('--not-retried', 'Only jobs without a retry, or whose retries were canceled')
      .option(
        '--since <time>',
        'Only jobs accepted in this period (24h, 30m) or since this time (2027-02-14T12:00:00Z)',
      )
      .option('--until <time>', 'Only jobs accepted before this time, or longer ago than this period')
      .option('--before <id>', 'Only jobs that are older than this job, for the next page')
      .option('--limit <n>', 'Maximum number of jobs (default: 20)'),
  ).action(lazily(async () => (await import('./job-list.ts')).listJobsCommand))
  jobs
    .command('show <ids...>')
    .description('Show jobs: their progress, errors and timelines, what they wait for, and what to do')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-show.ts')).showJobsCommand))
  jobs
    .command('watch <id>')
    .description('Show the progress of a job until it ends; the exit code is 1 if it does not succeed')
    .option('--json', 'Print a line of JSON for each change')
    .action(lazily(async () => (await import('./job-watch.ts')).watchJobCommand))
  jobs
    .command('cancel <ids...>')
    .description('Cancel jobs: queued jobs immediately, running jobs as soon as their handlers stop')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-actions.ts')).cancelJobsCommand))
  jobs
    .command('retry <ids...>')
    .description('Run failed or canceled jobs again, and print the ids of the new jobs')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-actions.ts')).retryJobsCommand))
  jobs
    .command('run <ids...>')
    .description('Run deferred jobs now, also those that wait for their next attempt')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-actions.ts')).runJobsCommand))
  addRedrive(jobs)
  addCleanup(jobs)
}

function addRedrive(jobs: Command): void {
  jobs
    .command('redrive')
    .description('Run failed jobs again, as new jobs; jobs that already have a retry are skipped')
    .addOption(configOption())
    .option('--operation <name>', 'Only jobs of this operation')
    .option(
      '--since <time>',
      'Only jobs that failed in this period (24h, 30m) or since this time (2027-02-14T12:00:00Z)',
    )
    .option('--error <code>', 'Only jobs with this error code')
    .option('--limit <n>', 'Maximum number of new jobs; the oldest failed jobs come first (default: unlimited)')
    .option('--dry-run', 'Only count the failed jobs, and do not run them again')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-redrive.ts')).redriveJobsCommand))
}

function addCleanup(jobs: Command): void {
  jobs
    .command('expire')
    .description('Expire the records of ended jobs now, so that clients get 410 for them')
    .option('--before <time>', 'Only jobs that ended before this time, or longer ago than this period (30d); required')
    .option('--operation <name>', 'Only jobs of this operation')
    .option('--dry-run', 'Only count the jobs, and do not expire them')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-cleanup.ts')).expireJobsCommand))
  jobs
    .command('forget <principal>')
    .description('Delete the jobs of a principal, with all that they contain, its keys and its webhook endpoints')
    .option('--cancel-pending', 'Also cancel and delete jobs that have not ended; running jobs need a second call')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./job-cleanup.ts')).forgetJobsCommand))
}
