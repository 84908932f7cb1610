import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import { ProblemError } from '../errors.ts'
import type { JobFilter } from '../jobs/read.ts'
import { batchName } from '../operation.ts'
import { type Action, isOperator, permits, scopesFor } from '../scopes.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route does, which decides the scope that it requires. */
    action?: Action
  }
}

/**
 * Returns which jobs a request may see and act on. This is the only place where a request gets access to the jobs of
 * other principals.
 */
export const visibleJobs = ({ principal, scopes, operations, linkedJobId }: FastifyRequest): JobFilter => ({
  principal: isOperator(scopes) || linkedJobId !== undefined ? undefined : principal,
  operations: operations && [...operations, batchName],
  id: linkedJobId,
})

/** Returns whether the request may submit or see jobs of an operation. Batches are permitted; their jobs are checked. */
export const mayUseOperation = ({ operations }: FastifyRequest, operation: string): boolean =>
  operations === undefined || operations.includes(operation) || operation === batchName

/**
 * Refuses callers without a scope that permits the route. Every route of the Fastify scope must declare what it does, so
 * that no route is open by mistake.
 *
 * @param action what all routes do, unless they declare it themselves
 */
export function requireScopes(scope: FastifyInstance, action?: Action): void {
  scope.addHook('onRoute', (route) => {
    route.config = { ...(action && { action }), ...route.config }
    if (!route.config.action) throw new TypeError(`The route ${route.method} ${route.url} must declare its action`)
  })
  scope.addHook('onRequest', (request, _reply, done) => done(problemOfScopes(request)))
}

function problemOfScopes({ routeOptions, operations, scopes }: FastifyRequest): ProblemError | undefined {
  const { action } = routeOptions.config as { action: Action }
  // Otherwise such a key could create a key without limits.
  if (action === 'administer' && operations) {
    return new ProblemError('forbidden', 'A key that is limited to operations cannot manage keys and webhook endpoints')
  }
  if (permits(scopes, action)) return undefined
  return new ProblemError('forbidden', `The request requires the scope ${scopesFor(action).join(' or ')}`)
}

/** Creates an `onRequest` hook that refuses callers whose key is for other operations. */
export const requireOperation =
  (operation: string): onRequestHookHandler =>
  (request, _reply, done) => {
    if (mayUseOperation(request, operation)) return done()
    done(new ProblemError('forbidden', `The key of the request does not permit the operation ${operation}`))
  }
