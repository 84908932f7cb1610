import type { Transaction } from 'kysely'
import type { Static, TSchema } from 'typebox'
import type { AbandonedJob } from './abandonment.ts'
import type { Acceptance, Entry, Refusal } from './acceptance.ts'
import { assertOperation, optionNames } from './assert-operation.ts'
import type { Coalesce, Limit, Retry, Route } from './operation-options.ts'
import { assertOptions } from './primitives/assert-options.ts'

/** The default of {@link Operation.keepSeconds}: seven days. */
export const defaultKeepSeconds = 7 * 24 * 60 * 60

// The names of the built-in operations: of webhook deliveries, of batches, and of changes of many jobs.
export const deliveryName = 'webhook.deliver'
export const batchName = 'batch'
export const bulkName = 'jobs.bulk'

type StaticOr<Schema, Otherwise> = Schema extends TSchema ? Static<Schema> : Otherwise
type RequestOf<Input extends TSchema, Params> = { input: Static<Input>; params: StaticOr<Params, undefined> }

/** The type of the worker's input: it follows the `payload` schema or, without that schema, the `input` schema. */
type PayloadOf<Input extends TSchema, Payload extends TSchema | undefined> = StaticOr<Payload, Static<Input>>

interface Definition<
  Name extends string,
  Input extends TSchema,
  Params extends TSchema | undefined,
  Payload extends TSchema | undefined,
  Result extends TSchema | undefined,
> {
  /** The operation's name, for example `todo.create`: `^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)*$`, up to 100 characters. */
  name: Name
  /** A short description for the OpenAPI document. Default: the name. */
  summary?: string
  /** The HTTP route. Without it, jobs are enqueued only from code. Default: none. */
  route?: Route
  /** Schema of the path parameters. Requires `accept`. */
  params?: Params
  /** Schema of the request's body. */
  input: Input
  /** Schema of the worker's input. Requires `accept`. Default: the `input` schema. */
  payload?: Payload
  /** Schema of the inline result that the handler returns. Default: no inline result. */
  result?: Result
  /** With `required`, a request without an Idempotency-Key gets 400. Default: `optional`. */
  idempotencyKey?: 'optional' | 'required'
  /** When failed attempts are retried. Default: 3 retries, after 1 s and then after delays that double, up to 60 s. */
  retry?: Partial<Retry>
  /** Time limit in seconds for `perform` and for `settle`, in each attempt. At most 82,800 (23 hours). Default: 60. */
  timeoutSeconds?: number
  /** Seconds without a heartbeat after which a worker is dead and its jobs are rescued. At least 10. Default: 15. */
  heartbeatSeconds?: number
  /** An integer. A job with a higher priority starts first. Default: 0. */
  priority?: number
  /**
   * While more jobs are due than workers can start, whether the principals of these jobs take turns, among jobs of the
   * same priority. With `false`, the oldest job starts first. Default: true.
   */
  fair?: boolean
  /** Returns the group of a job. The jobs of a group share `groupConcurrency`. Default: no groups. */
  group?: (payload: PayloadOf<Input, Payload>) => string
  /** How many jobs of one group may run at the same time, in all workers. Requires `group`. Default: unlimited. */
  groupConcurrency?: number
  /** How many jobs may start per period and run at the same time, in all workers together. Default: unlimited. */
  limit?: Limit<PayloadOf<Input, Payload>>
  /** While this many jobs wait, including deferred jobs, new requests get 503 `backlog-full`. Default: unlimited. */
  maxBacklog?: number
  /** While this many jobs of a principal wait, its requests get 429 `principal-backlog-full`. Default: unlimited. */
  maxBacklogPerPrincipal?: number
  /** How long the record of a job is kept after its end, in seconds; then clients get 410. Default: 604,800 (7 days). */
  keepSeconds?: number
  /**
   * The counterpart of `accept`: completes or undoes the domain rows of jobs that will never succeed. It is called in
   * the transaction in which jobs of the operation fail for good or are canceled, whatever the cause. Its writes commit
   * together with the new status. If it throws, these jobs do not end, and it is called again later. It runs in workers
   * and in the API, so the database roles of both need privileges for what it reads and writes. Default: none.
   *
   * @param trx the transaction in which the jobs end
   * @param jobs all jobs of the operation that end unsuccessfully in this transaction
   */
  abandon?: (trx: AnyTransaction, jobs: AbandonedJob<PayloadOf<Input, Payload>>[]) => Promise<unknown>
  /**
   * JSON pointers (RFC 6901) to members of the payload and of the result that are encrypted in the database, for example
   * `['/card']`. `''` is the whole payload and result. Requires the setting ENCRYPTION_KEYS. Default: none.
   */
  seal?: readonly string[]
  /** Lets requests that ask for the same work within a time share one job. Requires `route`. Default: each gets a job. */
  coalesce?: Coalesce<Static<Input>, StaticOr<Params, undefined>>
  /**
   * Whether `accept`, `settle` and `abandon` get a transaction for each job, in which the setting `accepted.principal` is
   * the principal of the job. Policies of row-level security can use it. Default: false, jobs share transactions.
   */
  oneByOne?: boolean
  /** Maximum size of the request's body in bytes. A larger body gets 413. Default: 1,048,576 (1 MiB). */
  bodyLimit?: number
}

/** A Kysely transaction with unknown tables. In `accept` and `settle`, give `trx` a type with the app's tables. */
// biome-ignore lint/suspicious/noExplicitAny: any other argument would reject a `trx` with the app's tables
export type AnyTransaction = Transaction<any>

type Accept<Input extends TSchema, Params extends TSchema | undefined, Payload extends TSchema | undefined> = (
  trx: AnyTransaction,
  entries: Entry<Static<Input>, StaticOr<Params, undefined>, PayloadOf<Input, Payload>>[],
) => Promise<(Acceptance<PayloadOf<Input, Payload>> | Refusal)[]>

interface OptionalAccept<
  Input extends TSchema,
  Params extends TSchema | undefined,
  Payload extends TSchema | undefined,
> {
  /**
   * Writes the domain rows of requests. The same transaction also stores their jobs. Requests that arrive together
   * share one transaction.
   *
   * @param trx the transaction, which commits before the requests are answered
   * @returns one result for each entry, in the same order: its payload and resource, or the return value of `refuse`
   */
  accept?: Accept<Input, Params, Payload>
}

/**
 * `accept` is required with a `payload` schema or a `params` schema, because the payload then differs from the input.
 */
type AcceptProperty<Input extends TSchema, Params extends TSchema | undefined, Payload extends TSchema | undefined> =
  // The tuples keep TypeScript from distributing the condition over a union.
  [Params, Payload] extends [undefined, undefined]
    ? OptionalAccept<Input, Params, Payload>
    : Required<OptionalAccept<Input, Params, Payload>>

/** A typed kind of work. Create it with {@link defineOperation}. */
export interface Operation<Name extends string = string, Payload = unknown, Result = unknown, Request = unknown> {
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
  readonly abandon: ((trx: AnyTransaction, jobs: AbandonedJob[]) => Promise<unknown>) | undefined
  readonly idempotencyKey: 'optional' | 'required'
  readonly retry: Retry
  readonly timeoutSeconds: number
  readonly heartbeatSeconds: number
  readonly priority: number
  readonly fair: boolean
  readonly group: ((payload: unknown) => string) | undefined
  readonly groupConcurrency: number | undefined
  readonly limit: Limit | undefined
  readonly maxBacklog: number | undefined
  readonly maxBacklogPerPrincipal: number | undefined
  /** How long the record of a job is kept after its end, in seconds. */
  readonly keepSeconds: number
  readonly seal: readonly string[]
  readonly coalesce: Coalesce | undefined
  readonly oneByOne: boolean
  readonly bodyLimit: number
  /** Exists only for type inference. Undefined at run time. */
  readonly types?: { payload: Payload; result: Result; request: Request }
}

/** The type of an operation's payload. */
export type PayloadFor<O> = O extends Operation<string, infer Payload, unknown> ? Payload : never
/** The type of an operation's inline result; undefined for an operation without an inline result. */
export type ResultFor<O> = O extends Operation<string, unknown, infer Result> ? Result : never

/**
 * Defines an operation: a typed kind of work that an HTTP route accepts, and that a worker performs and settles. Export
 * the operation from the operations module. Its name is also the name of its queue.
 *
 * @throws TypeError that names the invalid option
 */
export function defineOperation<
  const Name extends string,
  Input extends TSchema,
  Params extends TSchema | undefined = undefined,
  Payload extends TSchema | undefined = undefined,
  Result extends TSchema | undefined = undefined,
>(
  definition: Definition<Name, Input, Params, Payload, Result> & AcceptProperty<Input, Params, Payload>,
): Operation<Name, PayloadOf<Input, Payload>, StaticOr<Result, undefined>, RequestOf<Input, Params>> {
  assertOptions('defineOperation', definition, optionNames)
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
    abandon: definition.abandon as Operation['abandon'],
    idempotencyKey: definition.idempotencyKey ?? 'optional',
    retry: { limit: 3, delaySeconds: 1, backoff: true, maxDelaySeconds: 60, ...retry },
    timeoutSeconds: definition.timeoutSeconds ?? 60,
    heartbeatSeconds: definition.heartbeatSeconds ?? 15,
    priority: definition.priority ?? 0,
    fair: definition.fair ?? true,
    group: definition.group as Operation['group'],
    groupConcurrency: definition.groupConcurrency,
    limit: definition.limit as Limit | undefined,
    maxBacklog: definition.maxBacklog,
    maxBacklogPerPrincipal: definition.maxBacklogPerPrincipal,
    keepSeconds: definition.keepSeconds ?? defaultKeepSeconds,
    seal: definition.seal ?? [],
    coalesce: definition.coalesce as Coalesce | undefined,
    oneByOne: definition.oneByOne ?? false,
    bodyLimit: definition.bodyLimit ?? 1024 * 1024,
  } as const
  assertOperation(operation, definition)
  return operation
}
