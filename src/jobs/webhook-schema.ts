import Type, { type Static } from 'typebox'
import { batchName, type Operation } from '../operation.ts'
import { problemOfPrincipal, schedulePrincipal } from '../primitives/principal.ts'

/** The events that an endpoint can receive. */
export const eventTypes = ['job.succeeded', 'job.failed', 'job.canceled'] as const

export type EventType = (typeof eventTypes)[number]

const maxUrlLength = 2_000

/** The request body that registers an endpoint. */
export const NewEndpoint = Type.Object(
  {
    url: Type.String({
      maxLength: maxUrlLength,
      description: 'The http or https URL that deliveries are posted to; it must not contain credentials or a fragment',
    }),
    principal: Type.Optional(
      Type.String({
        description: 'The only principal whose jobs are delivered. Default: the jobs of all principals',
      }),
    ),
    eventTypes: Type.Optional(
      Type.Array(Type.Enum([...eventTypes]), { minItems: 1, uniqueItems: true, description: 'Default: all' }),
    ),
    operations: Type.Optional(
      Type.Array(Type.String(), { minItems: 1, uniqueItems: true, description: 'Default: all' }),
    ),
  },
  { additionalProperties: false, title: 'NewWebhookEndpoint' },
)

export type NewEndpoint = Static<typeof NewEndpoint>

/** A registered endpoint, without its secrets. */
export const Endpoint = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    url: Type.String({ format: 'uri' }),
    principal: Type.Optional(Type.String({ description: 'Absent: the jobs of all principals' })),
    eventTypes: Type.Array(Type.Enum([...eventTypes])),
    operations: Type.Optional(Type.Array(Type.String(), { description: 'Absent: all' })),
    createdAt: Type.String({ format: 'date-time' }),
    disabledAt: Type.Optional(Type.String({ format: 'date-time', description: 'Nothing is delivered from then on' })),
    disabledReason: Type.Optional(Type.String()),
    failingSince: Type.Optional(
      Type.String({ format: 'date-time', description: 'One delivery at a time is tried, because several have failed' }),
    ),
    nextAttemptAt: Type.Optional(Type.String({ format: 'date-time', description: 'While it fails: the next try' })),
  },
  { title: 'WebhookEndpoint' },
)

export type Endpoint = Static<typeof Endpoint>

/** An endpoint with its newest secret. A secret is shown only once, when it is created. */
export const EndpointWithSecret = Type.Object(
  {
    ...Endpoint.properties,
    secret: Type.String({ description: 'Verifies signatures (Standard Webhooks); shown only once' }),
  },
  { title: 'WebhookEndpointWithSecret' },
)

export type EndpointWithSecret = Static<typeof EndpointWithSecret>

/** Why an endpoint cannot be registered although it matches {@link NewEndpoint}. */
export interface EndpointViolation {
  /** JSON pointer (RFC 6901) to the member. */
  pointer: string
  keyword: 'format' | 'enum'
  message: string
}

/**
 * Checks what the schema {@link NewEndpoint} cannot check: the URL, the principal and the names of the operations.
 *
 * @returns the first violation; undefined when the endpoint can be registered
 */
export function findEndpointViolation(
  { url, principal, operations = [] }: NewEndpoint,
  definedOperations: ReadonlyMap<string, Operation>,
): EndpointViolation | undefined {
  const urlViolation = URL.canParse(url) ? findUrlViolation(new URL(url)) : 'must be an absolute URL'
  if (urlViolation) return { pointer: '/url', keyword: 'format', message: urlViolation }
  // An endpoint may receive the jobs of schedules.
  const principalProblem =
    principal === undefined || principal === schedulePrincipal ? undefined : problemOfPrincipal(principal)
  if (principalProblem) return { pointer: '/principal', keyword: 'format', message: principalProblem }
  const index = operations.findIndex((name) => !definedOperations.has(name) && name !== batchName)
  if (index === -1) return undefined
  return {
    pointer: `/operations/${index}`,
    keyword: 'enum',
    message: `must be the name of an operation, not ${operations[index]}`,
  }
}

function findUrlViolation({ protocol, username, password, href }: URL): string | undefined {
  if (protocol !== 'http:' && protocol !== 'https:') return 'must be http or https'
  if (username || password) return 'must not contain credentials'
  // The `hash` of a URL does not show an empty fragment.
  if (href.includes('#')) return 'must not contain a fragment'
  if (href.length > maxUrlLength) return `must not have more than ${maxUrlLength} characters`
  return undefined
}
