import { ConfigError, loadConfig } from '../config.ts'
import {
  createEndpoint,
  type Endpoint,
  type EndpointWithSecret,
  type EventType,
  eventTypes,
  findEndpointViolation,
  listEndpoints,
  removeEndpoint,
  rotateSecret,
} from '../jobs/webhook-endpoint.ts'
import { type Operation, operationsIn } from '../operation.ts'
import { withDatabase } from './with-database.ts'

interface Output {
  json?: boolean
}

interface Added extends Output {
  config?: string
  events?: string[]
  operations?: string[]
}

/** `accepted webhooks add`: registers an endpoint and shows its secret, this once. */
export async function addWebhook(url: string, options: Added): Promise<void> {
  const { events, operations } = options
  const unknown = events?.find((type) => !eventTypes.includes(type as EventType))
  if (unknown !== undefined) throw new ConfigError(`There is no event ${unknown}: there are ${eventTypes.join(', ')}.`)
  // Without names there is nothing to look up.
  const known = operations ? operationsIn((await loadConfig(options.config)).operations) : new Map<string, Operation>()
  const endpoint = {
    url,
    ...(events && { eventTypes: events as EventType[] }),
    ...(operations && { operations }),
  }
  const violation = findEndpointViolation(endpoint, known)
  if (violation)
    throw new ConfigError(
      `The ${violation.pointer === '/url' ? 'URL' : 'operation'} cannot be used: it ${violation.message}.`,
    )
  const made = await withDatabase((db) => db.transaction().execute((trx) => createEndpoint(trx, endpoint)))
  console.log(options.json ? JSON.stringify(made) : describeSecret(made))
  if (!options.json) console.log(`Remove it with: accepted webhooks remove ${made.id}`)
}

/** `accepted webhooks list`: every endpoint, without its secrets. */
export async function listWebhooks(options: Output): Promise<void> {
  const endpoints = await withDatabase(listEndpoints)
  if (options.json) return console.log(JSON.stringify(endpoints))
  if (endpoints.length === 0) return console.log('There are no webhook endpoints. `accepted webhooks add <url>`')
  for (const endpoint of endpoints) console.log(describe(endpoint))
}

function describe({ id, url, eventTypes, operations, disabledAt, disabledReason }: Endpoint): string {
  const disabled = disabledAt ? [`disabled ${disabledAt}: ${disabledReason}`] : []
  return [id, url, eventTypes.join(','), operations?.join(',') ?? 'all operations', ...disabled].join('  ')
}

/** `accepted webhooks rotate`: a new secret, shown this once; the one before goes on signing for a day. */
export async function rotateWebhook(id: string, options: Output): Promise<void> {
  const endpoint = await withDatabase((db) => db.transaction().execute((trx) => rotateSecret(trx, id)))
  if (!endpoint) throw unknownWebhook(id)
  console.log(options.json ? JSON.stringify(endpoint) : describeSecret(endpoint))
  if (!options.json) console.log('The one before it goes on signing for a day, beside this one.')
}

/** `accepted webhooks remove`: what is on its way to it is not delivered. */
export async function removeWebhook(id: string, options: Output): Promise<void> {
  const removed = await withDatabase((db) => db.transaction().execute((trx) => removeEndpoint(trx, id)))
  if (!removed) throw unknownWebhook(id)
  console.log(options.json ? JSON.stringify({ id, removed: true }) : `Removed ${id}.`)
}

const describeSecret = ({ secret, url }: EndpointWithSecret) =>
  `${secret}\n\nIt is shown this once. It verifies what is sent to ${url}.`

const unknownWebhook = (id: string) =>
  new ConfigError(`There is no webhook endpoint ${id}; \`accepted webhooks list\` shows them all.`)
