import type { Transaction } from 'kysely'
import type { Static, TSchema } from 'typebox'

/** How long the record of a job is kept: until its end from when it was due, and again from its end. In seconds. */
export const keepSeconds = 7 * 24 * 60 * 60

/** The operation that delivers webhooks; nobody else's may have its name. */
export const deliveryName = 'webhook.deliver'

/** pg-boss's leases end after 24 hours, and settling has one of them to itself. */
const mostTimeoutSeconds = 23 * 60 * 60

const namePattern = /^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)*$/

/** One request that waits to be accepted, as the operation's `accept` sees it. */
export interface Entry<Input, Params> {
  /** The id the job will have (UUIDv7); fit to be the id of a row as well. */
  id: string
  input: Input
  params: Params
  /** Who asks, as `authenticate` said. */
  principal: string
}

/** What `accept` decides for an entry that becomes a job. */
export interface Acceptance<Payload> {
  /** What the worker gets. */
  payload: Payload
  /** Path of what the job makes, for example `/todos/1`: where the client is sent once it has succeeded. */
  resource?: string
}

/** What `accept` decides for an entry that does not become a job; made by {@link refuse}. */
export class Refusal {
  readonly status: number
  readonly code: string
  readonly message: string

  constructor(status: number, code: string, message: string) {
    if (!(Number.isInteger(status) && status >= 400 && status <= 499)) {
      throw new TypeError(`refuse: status must be a 4xx, not ${status}`)
    }
    this.status = status
    this.code = code
    this.message = message
  }
}

/**
 * Refuses one entry of an `accept`: that request is answered with the status, its Idempotency-Key stays unused and
 * nothing of it is kept. Others that share the transaction are not affected.
 *
 * @param status 400 to 499
 * @param code for programs, in kebab-case, for example `todo-not-found`
 * @param message a sentence for the client
 */
export function refuse(status: number, code: string, message: string): Refusal {
  return new Refusal(status, code, message)
}

export interface Retry {
  /** How often a failed job is tried again. */
  limit: number
  /** Seconds before the first retry. */
  delaySeconds: number
  /** Doubles the delay each time, with jitter. */
  backoff: boolean
  /** Upper bound of the delay, in seconds. */
  maxDelaySeconds: number
}

export interface Route {
  method: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Fastify's path syntax, for example `/todos/:id/reminders`. */
  url: string
}

type StaticOr<Schema, Otherwise> = Schema extends TSchema ? Static<Schema> : Otherwise

/** What an operation's worker gets: its `payload`, else its `input`. */
type PayloadOf<Input extends TSchema, Payload extends TSchema | undefined> = StaticOr<Payload, Static<Input>>

interface Definition<
  Name extends string,
  Input extends TSchema,
  Params extends TSchema | undefined,
  Payload extends TSchema | undefined,
  Result extends TSchema | undefined,
> {
  /** Also the name of the queue: `^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)*$`. */
  name: Name
  /** A few words for the OpenAPI document. */
  summary?: string
  /** Absent: no HTTP route, enqueue only. */
  route?: Route
  /** Path parameters. */
  params?: Params
  /** The request's body. */
  input: Input
  /** What the worker gets; default: the input. */
  payload?: Payload
  /** The inline result. */
  result?: Result
  /** `optional` by default. `required`: a request without one is refused with 400. */
  idempotencyKey?: 'optional' | 'required'
  /** Default: 3 retries, after 1 second and then twice as long each time, up to 60 seconds. */
  retry?: Partial<Retry>
  /** How long one attempt may take, in seconds; default 60, at most 23 hours. */
  timeoutSeconds?: number
  /** A worker that is silent for so long has died, in seconds; 10 or more, default 15. */
  heartbeatSeconds?: number
  /** Higher goes first; default 0. */
  priority?: number
  /** Jobs of one group share `groupConcurrency`. */
  group?: (payload: PayloadOf<Input, Payload>) => string
  /** How many jobs of one group run at once, over all workers. */
  groupConcurrency?: number
  /** With so many jobs waiting, requests are answered 503; default: no bound. */
  maxBacklog?: number
  /** Body limit in bytes; default 1 MiB. */
  bodyLimit?: number
}

/** The app's tables are unknown here: an `accept` or `settle` names them in its own annotation of `trx`. */
// biome-ignore lint/suspicious/noExplicitAny: any other type argument would refuse that annotation
export type AnyTransaction = Transaction<any>

type Accept<Input extends TSchema, Params extends TSchema | undefined, Payload extends TSchema | undefined> = (
  trx: AnyTransaction,
  entries: Entry<Static<Input>, StaticOr<Params, undefined>>[],
) => Promise<(Acceptance<PayloadOf<Input, Payload>> | Refusal)[]>

/** `accept` must be there when it alone can make the payload: with a `payload` of its own, or with `params`. */
type AcceptProperty<Input extends TSchema, Params extends TSchema | undefined, Payload extends TSchema | undefined> =
  // Tuples, so that a union does not distribute.
  [Params, Payload] extends [undefined, undefined]
    ? { accept?: Accept<Input, Params, Payload> }
    : { accept: Accept<Input, Params, Payload> }

/** A typed kind of work; made by {@link defineOperation}. */
export interface Operation<Name extends string = string, Payload = unknown, Result = unknown> {
  readonly name: Name
  readonly summary: string
  readonly route: Route | undefined
  readonly schemas: {
    readonly params: TSchema | undefined
    readonly input: TSchema
    readonly payload: TSchema
    readonly result: TSchema | undefined
  }
  readonly accept:
    | ((trx: AnyTransaction, entries: Entry<unknown, unknown>[]) => Promise<(Acceptance<unknown> | Refusal)[]>)
    | undefined
  readonly idempotencyKey: 'optional' | 'required'
  readonly retry: Retry
  readonly timeoutSeconds: number
  readonly heartbeatSeconds: number
  readonly priority: number
  readonly group: ((payload: unknown) => string) | undefined
  readonly groupConcurrency: number | undefined
  readonly maxBacklog: number | undefined
  readonly bodyLimit: number
  /** Types only; there is no such property at run time. */
  readonly types?: { payload: Payload; result: Result }
}

export type PayloadFor<O> = O extends Operation<string, infer Payload, unknown> ? Payload : never
export type ResultFor<O> = O extends Operation<string, unknown, infer Result> ? Result : never

/**
 * Defines an operation: a typed kind of work that an HTTP route accepts and a worker performs and settles.
 *
 * @throws TypeError when a name, a route or a number cannot be used; it says which
 */
export function defineOperation<
  const Name extends string,
  Input extends TSchema,
  Params extends TSchema | undefined = undefined,
  Payload extends TSchema | undefined = undefined,
  Result extends TSchema | undefined = undefined,
>(
  definition: Definition<Name, Input, Params, Payload, Result> & AcceptProperty<Input, Params, Payload>,
): Operation<Name, PayloadOf<Input, Payload>, StaticOr<Result, undefined>> {
  const { name, route, retry } = definition
  const operation = {
    name,
    summary: definition.summary ?? name,
    route,
    schemas: {
      params: definition.params,
      input: definition.input,
      payload: definition.payload ?? definition.input,
      result: definition.result,
    },
    accept: definition.accept as Operation['accept'],
    idempotencyKey: definition.idempotencyKey ?? 'optional',
    retry: { limit: 3, delaySeconds: 1, backoff: true, maxDelaySeconds: 60, ...retry },
    timeoutSeconds: definition.timeoutSeconds ?? 60,
    heartbeatSeconds: definition.heartbeatSeconds ?? 15,
    priority: definition.priority ?? 0,
    group: definition.group as Operation['group'],
    groupConcurrency: definition.groupConcurrency,
    maxBacklog: definition.maxBacklog,
    bodyLimit: definition.bodyLimit ?? 1024 * 1024,
  } as const
  check(operation)
  return operation
}

function check(operation: Operation): void {
  const { name, route, retry } = operation
  const demand = (met: boolean, what: string) => {
    if (!met) throw new TypeError(`Operation '${name}': ${what}`)
  }
  demand(namePattern.test(name) && name.length <= 100, `the name must match ${namePattern.source}`)
  demand(!route || route.url.startsWith('/'), `route.url must start with '/', not '${route?.url}'`)
  demand(
    !(operation.schemas.params || operation.schemas.payload !== operation.schemas.input) || !!operation.accept,
    'with params, or a payload of its own, it needs accept',
  )
  demand(!operation.groupConcurrency || !!operation.group, 'groupConcurrency needs group')
  for (const [what, value, least] of [
    ['retry.limit', retry.limit, 0],
    ['retry.delaySeconds', retry.delaySeconds, 0],
    ['retry.maxDelaySeconds', retry.maxDelaySeconds, 1],
    ['timeoutSeconds', operation.timeoutSeconds, 1],
    ['heartbeatSeconds', operation.heartbeatSeconds, 10],
    ['groupConcurrency', operation.groupConcurrency ?? 1, 1],
    ['maxBacklog', operation.maxBacklog ?? 1, 1],
    ['bodyLimit', operation.bodyLimit, 1],
  ] as const) {
    demand(Number.isInteger(value) && value >= least, `${what} must be an integer of at least ${least}, not ${value}`)
  }
  demand(operation.timeoutSeconds <= mostTimeoutSeconds, `timeoutSeconds must be at most ${mostTimeoutSeconds}`)
  demand(Number.isInteger(operation.priority), `priority must be an integer, not ${operation.priority}`)
}

const isOperation = (value: unknown): value is Operation =>
  typeof value === 'object' && value !== null && 'name' in value && 'schemas' in value && 'retry' in value

/**
 * The operations among the values of a module namespace or any other record; what is no operation is ignored.
 *
 * @throws TypeError when two have the same name or one has that of a built-in operation, or there is none
 */
export function operationsIn(record: object): Map<string, Operation> {
  const operations = new Map<string, Operation>()
  for (const value of Object.values(record)) {
    if (!isOperation(value)) continue
    if (value.name === deliveryName) throw new TypeError(`The name '${value.name}' is taken by a built-in operation`)
    const other = operations.get(value.name)
    if (other && other !== value) throw new TypeError(`Two operations are named '${value.name}'`)
    operations.set(value.name, value)
  }
  if (operations.size === 0) throw new TypeError('There is no operation among the exports of the operations module')
  return operations
}
