import { problemOfLimit } from './assert-limit.ts'
import { problemOfSeal } from './assert-seal.ts'
import type { Coalesce, Limit, Retry, Route } from './operation-options.ts'
import { assertOptions } from './primitives/assert-options.ts'

/** pg-boss limits a claim to 24 hours. One of these hours is kept for settling. */
const maxTimeoutSeconds = 23 * 60 * 60

/** The greatest value of an `integer` in Postgres. */
const maxInteger = 2 ** 31 - 1

/**
 * Maximum length of a window in which requests share a job: a leap year. A job that waits keeps the records of all jobs
 * of its day, and pg-boss deletes a job that waits for more than ten years.
 */
const maxCoalesceSeconds = 366 * 24 * 60 * 60

const namePattern = /^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)*$/
const methods = ['POST', 'PUT', 'PATCH', 'DELETE']
const schemaOptions: readonly string[] = ['params', 'input', 'payload', 'result']

/** The options of defineOperation. */
export const optionNames = [
  ...['name', 'summary', 'route', 'params', 'input', 'payload', 'result', 'accept', 'abandon', 'idempotencyKey'],
  ...[
    'retry',
    'timeoutSeconds',
    'heartbeatSeconds',
    'priority',
    'fair',
    'group',
    'groupConcurrency',
    'limit',
    'maxBacklog',
    'maxBacklogPerPrincipal',
    'keepSeconds',
  ],
  ...['seal', 'coalesce', 'oneByOne', 'bodyLimit'],
]

/**
 * Checks an operation. Users of JavaScript have no compiler that does so.
 *
 * @param definition the options as given
 * @throws TypeError that names the invalid option
 */
export function assertOperation(operation: CheckedOperation, definition: object): void {
  const { name, route, retry, schemas } = operation
  const ensure = (isValid: boolean, message: string) => {
    if (!isValid) throw new TypeError(`Operation '${name}': ${message}`)
  }
  ensure(
    namePattern.test(name) && name.length <= 100,
    `the name must match ${namePattern.source} and have at most 100 characters, for example todo.create`,
  )
  assertTypes(ensure, definition)
  assertRoute(ensure, route)
  assertCoalesce(ensure, operation)
  const sealProblem = problemOfSeal(operation.seal, [schemas.payload, schemas.result])
  ensure(sealProblem === undefined, `seal ${sealProblem}`)
  const limitProblem = problemOfLimit(operation)
  ensure(limitProblem === undefined, `limit${limitProblem}`)
  ensure(
    !(schemas.params || schemas.payload !== schemas.input) || !!operation.accept,
    'params or a payload schema requires accept',
  )
  ensure(!operation.groupConcurrency || !!operation.group, 'groupConcurrency requires group')
  for (const [option, value, minimum] of [
    ['retry.limit', retry.limit, 0],
    ['retry.delaySeconds', retry.delaySeconds, 0],
    ['retry.maxDelaySeconds', retry.maxDelaySeconds, 1],
    ['timeoutSeconds', operation.timeoutSeconds, 1],
    ['heartbeatSeconds', operation.heartbeatSeconds, 10],
    ['groupConcurrency', operation.groupConcurrency ?? 1, 1],
    ['maxBacklog', operation.maxBacklog ?? 1, 1],
    ['maxBacklogPerPrincipal', operation.maxBacklogPerPrincipal ?? 1, 1],
    ['keepSeconds', operation.keepSeconds, 1],
    ['bodyLimit', operation.bodyLimit, 1],
  ] as const) {
    ensure(
      Number.isInteger(value) && value >= minimum && value <= maxInteger,
      `${option} must be an integer from ${minimum} to ${maxInteger}, not ${value}`,
    )
  }
  ensure(operation.timeoutSeconds <= maxTimeoutSeconds, `timeoutSeconds must be at most ${maxTimeoutSeconds}`)
  const { priority } = operation
  ensure(
    Number.isInteger(priority) && Math.abs(priority) <= maxInteger,
    `priority must be an integer from -${maxInteger} to ${maxInteger}, not ${priority}`,
  )
}

interface CheckedOperation {
  name: string
  route: Route | undefined
  retry: Retry
  schemas: Record<'params' | 'input' | 'payload' | 'result', unknown>
  accept: unknown
  group: unknown
  timeoutSeconds: number
  heartbeatSeconds: number
  priority: number
  groupConcurrency: number | undefined
  limit: Limit | undefined
  maxBacklog: number | undefined
  maxBacklogPerPrincipal: number | undefined
  keepSeconds: number
  seal: readonly string[]
  coalesce: Coalesce | undefined
  bodyLimit: number
}

type Ensure = (isValid: boolean, message: string) => void

function assertTypes(ensure: Ensure, definition: object): void {
  const options = definition as Record<string, unknown>
  for (const [names, type] of [
    [['params', 'input', 'payload', 'result'], 'object'],
    [['accept', 'abandon', 'group'], 'function'],
    [['summary'], 'string'],
    [['fair', 'oneByOne'], 'boolean'],
    [['route', 'retry', 'coalesce', 'limit'], 'object'],
  ] as const) {
    for (const option of names) {
      const value = options[option]
      if (value === undefined && option !== 'input') continue
      const what = schemaOptions.includes(option) ? 'a TypeBox schema, for example Type.Object({})' : `of type ${type}`
      ensure(typeof value === type && value !== null, `${option} must be ${what}, not ${show(value)}`)
    }
  }
  const { idempotencyKey = 'optional', retry } = options
  const isKey = idempotencyKey === 'optional' || idempotencyKey === 'required'
  ensure(isKey, `idempotencyKey must be 'optional' or 'required', not ${show(idempotencyKey)}`)
  assertOptions('retry', retry ?? {}, ['limit', 'delaySeconds', 'backoff', 'maxDelaySeconds'])
  const { backoff = true } = (retry ?? {}) as { backoff?: unknown }
  ensure(typeof backoff === 'boolean', `retry.backoff must be true or false, not ${show(backoff)}`)
}

const show = (value: unknown) => (typeof value === 'string' ? `'${value}'` : String(value))

function assertRoute(ensure: Ensure, route: Route | undefined): void {
  if (!route) return
  const { method, url } = route as Partial<Record<keyof Route, unknown>>
  const isUrl = typeof url === 'string' && url.startsWith('/')
  ensure(isUrl, `route.url must start with '/', for example '/todos', not ${show(url)}`)
  const isMethod = typeof method === 'string' && methods.includes(method.toUpperCase())
  ensure(isMethod, `route.method must be one of ${methods.join(', ')}, not ${show(method)}`)
}

function assertCoalesce(ensure: Ensure, { coalesce, route, keepSeconds }: CheckedOperation): void {
  if (!coalesce) return
  assertOptions('coalesce', coalesce, ['key', 'forSeconds', 'mode'])
  const { key, forSeconds, mode } = coalesce as Partial<Record<keyof Coalesce, unknown>>
  ensure(typeof key === 'function', `coalesce.key must be of type function, not ${show(key)}`)
  ensure(
    Number.isInteger(forSeconds) && (forSeconds as number) >= 1 && (forSeconds as number) <= maxCoalesceSeconds,
    `coalesce.forSeconds must be an integer from 1 to ${maxCoalesceSeconds}, not ${show(forSeconds)}`,
  )
  ensure(mode === 'first' || mode === 'last', `coalesce.mode must be 'first' or 'last', not ${show(mode)}`)
  ensure(!!route, 'coalesce requires route, because only requests are coalesced')
  // Later requests of the window could not get a job whose record has expired.
  ensure(
    mode === 'last' || (forSeconds as number) <= keepSeconds,
    `coalesce.forSeconds must be at most keepSeconds, ${keepSeconds}, with the mode 'first'`,
  )
}
