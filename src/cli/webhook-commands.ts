import { collectOperations } from '../collect-operations.ts'
import { ConfigError } from '../config.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { createEndpoint, listEndpoints, removeEndpoint, rotateSecret } from '../jobs/webhook-endpoint.ts'
import {
  type Endpoint,
  type EndpointWithSecret,
  type EventType,
  eventTypes,
  findEndpointViolation,
} from '../jobs/webhook-schema.ts'
import { rekeySecrets } from '../jobs/webhook-secret.ts'
import { loadConfig } from '../load-config.ts'
import type { Operation } from '../operation.ts'
import { formatCount } from '../primitives/format-count.ts'
import { readEncryptionKeys, requireEncryptionKeys, warnWithoutKeys } from './encryption-keys.ts'
import { type ListOptions, printList } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { withDatabase } from './with-database.ts'

interface AddWebhookOptions extends OutputOptions {
  config?: string
  events?: string[]
  operations?: string[]
  principal?: string
}

/** Runs `accepted webhooks add`: registers an endpoint and prints its secret. The secret cannot be printed again. */
export async function addWebhookCommand(url: string, options: AddWebhookOptions): Promise<void> {
  const { events, operations, principal } = options
  const unknown = events?.find((type) => !eventTypes.includes(type as EventType))
  if (unknown !== undefined) {
    throw new ConfigError(`--events must contain only ${eventTypes.join(', ')}, not '${unknown}'.`)
  }
  // The configuration is needed only to check the names of operations.
  const definedOperations = operations
    ? collectOperations((await loadConfig(options.config)).operations)
    : new Map<string, Operation>()
  const endpoint = {
    url,
    ...(events && { eventTypes: events as EventType[] }),
    ...(operations && { operations }),
    ...(principal !== undefined && { principal }),
  }
  const violation = findEndpointViolation(endpoint, definedOperations)
  if (violation) {
    throw new ConfigError(`${subjectOf(violation.pointer)} ${violation.message}.`)
  }
  const keys = readEncryptionKeys()
  const created = await withDatabase((db) => db.transaction().execute((trx) => createEndpoint(trx, endpoint, keys)))
  warnWithoutKeys(keys)
  console.log(options.json ? JSON.stringify(created) : formatSecret(created))
  if (!options.json) console.log(`To remove the endpoint: accepted webhooks remove ${created.id}`)
}

function subjectOf(pointer: string): string {
  if (pointer === '/url') return 'The URL'
  return pointer === '/principal' ? 'The principal' : 'Each name in --operations'
}

/** Runs `accepted webhooks list`: lists all endpoints, without their secrets. */
export const listWebhooksCommand = (options: ListOptions): Promise<void> =>
  printList<Endpoint>(
    {
      columns: [
        { heading: 'ID', cell: ({ id }) => id },
        { heading: 'URL', cell: ({ url }) => url, whenNarrow: 'cut' },
        { heading: 'EVENTS', cell: ({ eventTypes }) => eventTypes.join(','), whenNarrow: 'omit' },
        { heading: 'OPERATIONS', cell: ({ operations }) => operations?.join(',') ?? 'all', whenNarrow: 'omit' },
        { heading: 'PRINCIPAL', cell: ({ principal }) => principal ?? 'all', whenNarrow: 'omit' },
        { heading: 'STATUS', cell: statusOf, whenNarrow: 'cut', style: styleOf },
      ],
      read: listEndpoints,
      whenEmpty: 'No webhook endpoints. Register one with: accepted webhooks add <url>',
    },
    options,
  )

function statusOf({ disabledAt, disabledReason, failingSince, nextAttemptAt }: Endpoint): string {
  if (disabledAt) return `disabled since ${disabledAt}: ${disabledReason ?? 'no reason given'}`
  return failingSince ? `failing since ${failingSince}, next attempt ${nextAttemptAt}` : 'enabled'
}

const styleOf = ({ disabledAt, failingSince }: Endpoint) => (disabledAt ? 'red' : failingSince ? 'yellow' : 'green')

/** Runs `accepted webhooks rotate`: replaces a secret and prints the new secret. It cannot be printed again. */
export async function rotateWebhookCommand(id: string, options: OutputOptions): Promise<void> {
  const keys = readEncryptionKeys()
  const endpoint = await withDatabase((db) => db.transaction().execute((trx) => rotateSecret(trx, id, keys)))
  if (!endpoint) throw unknownWebhook(id)
  warnWithoutKeys(keys)
  console.log(options.json ? JSON.stringify(endpoint) : formatSecret(endpoint))
  if (!options.json) console.log('For 24 hours, deliveries are signed with both the previous secret and this secret.')
}

/** Runs `accepted webhooks remove`: removes an endpoint. Its pending deliveries fail. */
export async function removeWebhookCommand(id: string, options: OutputOptions): Promise<void> {
  const removed = await withDatabase((db) => db.transaction().execute((trx) => removeEndpoint(trx, id)))
  if (!removed) throw unknownWebhook(id)
  console.log(options.json ? JSON.stringify({ id, removed: true }) : `Removed ${id}.`)
}

/**
 * Runs `accepted webhooks rekey`: encrypts the secrets of all endpoints with the first key.
 *
 * @throws ConfigError when the role of DATABASE_URL may not change secrets
 */
export async function rekeyWebhooksCommand(options: OutputOptions): Promise<void> {
  const keys = requireEncryptionKeys()
  const { rekeyed, unchanged, failed } = await withDatabase((db) => rekeySecrets(db, keys)).catch((cause) => {
    if (errorCode(cause) !== sqlstate.insufficientPrivilege) throw cause
    const message =
      'The role in DATABASE_URL may not change signing secrets. Run this command as the role that migrates.'
    throw new ConfigError(message, { cause })
  })
  if (options.json) console.log(JSON.stringify({ key: keys.encryptingId, rekeyed, unchanged, failed }))
  else {
    console.log(`Encrypted the secrets of ${formatCount(rekeyed, 'endpoint')} with the key ${keys.encryptingId}.`)
    if (unchanged > 0) console.log(`${formatCount(unchanged, 'endpoint')} had this key already.`)
  }
  for (const { id, reason } of failed) console.error(`error: The secret of ${id} cannot be decrypted: ${reason}.`)
  if (failed.length > 0) process.exitCode = 1
}

const formatSecret = ({ secret, url }: EndpointWithSecret) =>
  `${secret}\n\nThis secret is shown only once. It verifies the signatures of deliveries to ${url}.`

export const unknownWebhook = (id: string) =>
  new ConfigError(`There is no webhook endpoint ${id}. \`accepted webhooks list\` shows all endpoints.`)
