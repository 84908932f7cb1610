import type { Command } from 'commander'
import { addListOptions, jsonOption, lazily } from './program-options.ts'

/** Adds `accepted operations`, `accepted workers` and their commands. */
export function addOperationCommands(program: Command): void {
  const operations = program.command('operations').description('List, pause and resume operations')
  addListOptions(
    operations
      .command('list')
      .description('List the operations, with their waiting and running jobs, workers and pauses'),
  ).action(lazily(async () => (await import('./operation-commands.ts')).listOperationsCommand))
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

  const workers = program.command('workers').description('List the worker processes')
  addListOptions(
    workers.command('list', { isDefault: true }).description('List the worker processes, and the jobs that each runs'),
  ).action(lazily(async () => (await import('./worker-list.ts')).listWorkersCommand))
}
