import type { Command } from 'commander'
import { eventTypes } from '../jobs/webhook-schema.ts'
import { addListOptions, configOption, jsonOption, lazily, nameListOption } from './program-options.ts'

/** Adds `accepted webhooks` and its commands. */
export function addWebhookCommands(program: Command): void {
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
      nameListOption(
        '--operations <names>',
        'Send only events of these operations, separated by commas (default: all)',
      ),
    )
    .option('--principal <name>', 'Send only events of the jobs of this principal (default: of all principals)')
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./webhook-commands.ts')).addWebhookCommand))
  addListOptions(webhooks.command('list').description('List webhook endpoints, without their secrets')).action(
    lazily(async () => (await import('./webhook-commands.ts')).listWebhooksCommand),
  )
  webhooks
    .command('rotate <id>')
    .description(
      'Replace the signing secret of an endpoint; for 24 hours, deliveries are also signed with the previous secret',
    )
    .addOption(jsonOption())
    .action(lazily(async () => (await import('./webhook-commands.ts')).rotateWebhookCommand))
  addListOptions(
    webhooks
      .command('log [endpoint]')
      .description('List the last attempts to deliver, newest first, with the answers of the endpoints'),
  ).action(lazily(async () => (await import('./webhook-log.ts')).logWebhooksCommand))
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
}
