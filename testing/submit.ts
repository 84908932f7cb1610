import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Problem } from '../src/http/protocol/problem.ts'
import type { Monitor } from '../src/jobs/monitor-schema.ts'
import type { Operation } from '../src/operation.ts'
import type { Route } from '../src/operation-options.ts'
import { SubmitRefused } from './errors.ts'

/** Options of `submit`. */
export interface SubmitOptions {
  /** The value of the header Idempotency-Key. */
  key?: string
  /** The principal of the request. Default: `anonymous`. */
  principal?: string
  /** The path parameters of the operation's route. */
  params?: Readonly<Record<string, string | number | boolean>>
}

const principalHeader = 'x-accepted-test-principal'

/** Identifies the caller of a request of {@link submit}. */
export const identify = ({ headers }: FastifyRequest): string => decodeURIComponent(`${headers[principalHeader]}`)

/** Enqueues a job of an operation without a route. Otherwise sends the request of a client. */
export async function submit(
  app: FastifyInstance,
  operation: Operation,
  input: unknown,
  options: SubmitOptions,
): Promise<Monitor> {
  if (operation.route) return post(app, operation as Operation & { route: Route }, input, options)
  const { db, enqueue } = app.accepted
  const { params: _, ...enqueueOptions } = options
  return db.transaction().execute((trx) => enqueue(trx, operation, input, enqueueOptions))
}

/** Sends a request through the validation and the transaction of the API. */
async function post(
  app: FastifyInstance,
  operation: Operation & { route: Route },
  input: unknown,
  { key, principal = 'anonymous', params = {} }: SubmitOptions,
): Promise<Monitor> {
  const response = await app.inject({
    method: operation.route.method,
    url: fillPath(operation, params),
    headers: {
      'content-type': 'application/json',
      [principalHeader]: encodeURIComponent(principal),
      ...(key !== undefined && { 'idempotency-key': JSON.stringify(key) }),
    },
    payload: JSON.stringify(input),
  })
  if (response.statusCode < 300) return response.json<Monitor>()
  throw new SubmitRefused(operation.name, response.statusCode, response.json<Problem>().error)
}

/** @throws TypeError when a parameter is missing */
function fillPath({ name, route }: Operation & { route: Route }, params: NonNullable<SubmitOptions['params']>): string {
  return route.url.replaceAll(/:(\w+)/g, (_, param: string) => {
    const value = params[param]
    if (value === undefined) {
      throw new TypeError(`submit: the route ${route.url} of ${name} requires { params: { ${param}: … } }`)
    }
    return encodeURIComponent(value)
  })
}
