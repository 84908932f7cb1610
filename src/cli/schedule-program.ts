import type { Command } from 'commander'
import { addListOptions, jsonOption, lazily } from './program-options.ts'

/** Adds `accepted schedules` and its commands. */
export function addScheduleCommands(program: Command): void {
  const schedules = program.command('schedules').description('List, run, backfill, pause and resume schedules')
  addListOptions(
    schedules
      .command('list')
      .description('List the schedules with their next and last occurrences, and the status of the last job'),
  ).action(lazily(async () => (await import('./schedule-commands.ts')).listSchedulesCommand))
  schedules
    .command('run <name>')
    .description('Create a job of a schedule now, also while it is paused, and print its id')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./schedule-commands.ts')).runScheduleCommand))
  schedules
    .command('backfill <name>')
    .description('Create the jobs of occurrences that never became jobs, and print the id of their batch')
    .option('--since <time>', 'The oldest occurrence: a period (7d, 24h) or a time (2027-02-14T12:00:00Z); required')
    .option('--until <time>', 'The newest occurrence (default: now)')
    .option('--limit <n>', 'Maximum number of jobs; the oldest occurrences come first (default: 1000)')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./schedule-commands.ts')).backfillScheduleCommand))
  schedules
    .command('pause <name>')
    .description('Let the occurrences of a schedule pass without a job')
    .option('--reason <text>', 'The reason, which `schedules list` shows')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./schedule-commands.ts')).pauseScheduleCommand))
  schedules
    .command('resume <name>')
    .description('Let the occurrences of a paused schedule become jobs again, from the next one')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./schedule-commands.ts')).resumeScheduleCommand))
}
