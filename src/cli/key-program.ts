import type { Command } from 'commander'
import { defaultScopes } from '../scopes.ts'
import { addListOptions, jsonOption, lazily, nameListOption } from './program-options.ts'

/** Adds `accepted keys` and its commands. */
export function addKeyCommands(program: Command): void {
  const keys = program
    .command('keys')
    .description('Manage API keys; until the first key exists, requests from this machine have the principal anonymous')
  keys
    .command('add <name>')
    .description('Create an API key and print it; the key cannot be shown again')
    .option('--principal <name>', 'Principal of the requests with this key (default: the name of the key)')
    .addOption(
      nameListOption(
        '--scopes <scopes>',
        `What the key permits, separated by commas (default: ${defaultScopes.join(',')})`,
      ),
    )
    .addOption(
      nameListOption('--operations <names>', 'Permit only these operations, separated by commas (default: all)'),
    )
    .option('--if-none', 'Do nothing if a key has ever existed, for scripts that run at every start')
    .option('--expires <duration>', 'Lifetime of the key, such as 12h or 30d (default: unlimited)')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./key-commands.ts')).addKeyCommand))
  addListOptions(
    keys.command('list').description('List API keys with their scopes and last use, without their secrets'),
  ).action(lazily(async () => (await import('./key-commands.ts')).listKeysCommand))
  keys
    .command('rotate <id>')
    .description('Replace an API key with a new one that has the same rights; the old key is accepted for another day')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./key-commands.ts')).rotateKeyCommand))
  keys
    .command('revoke <id>')
    .description('Revoke an API key; its streams end within 2 seconds')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./key-commands.ts')).revokeKeyCommand))
}
