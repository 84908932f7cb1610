import { type Command, Option } from 'commander'

/** Loads the code of a command only when the command runs, so that the others start sooner. */
export const lazily =
  <Args extends unknown[]>(load: () => Promise<(...args: Args) => Promise<void>>) =>
  async (...args: Args) =>
    (await load())(...args)

export const configOption = () => new Option('--config <file>', 'Configuration file (default: ./accepted.config.ts)')
/** Every command takes `--config`, so that a script can pass the same options to all. */
export const unusedConfigOption = () =>
  new Option('--config <file>', 'Has no effect: this command needs no configuration file')
export const processesOption = () =>
  new Option('--processes <n>', 'Number of processes, from 1 to 64, or auto: one per processor (default: 1)')
export const jsonOption = () => new Option('--json', 'Print JSON')
const parseNames = (list: string) =>
  list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
export const nameListOption = (flags: string, description: string) =>
  new Option(flags, description).argParser(parseNames)

/** Adds the options of all lists. */
export const addListOptions = (command: Command): Command =>
  command
    .option('--watch', 'Show the changes until Ctrl-C; in a pipe, print a line for each change')
    .addOption(new Option('--json', 'Print an array of JSON; with --watch, a line of JSON for each change'))
