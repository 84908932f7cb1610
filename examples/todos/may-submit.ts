import type { Operation } from 'accepted'
import type { FastifyRequest } from 'fastify'
import { HttpError } from './http-error.ts'

/**
 * Creates an `onRequest` hook for a route that enqueues jobs of an operation. The route of an operation checks this by
 * itself.
 */
export const maySubmit =
  ({ name }: Operation) =>
  async ({ scopes, operations }: FastifyRequest): Promise<void> => {
    const isPermitted = scopes.includes('submit') || scopes.includes('admin')
    if (!isPermitted) throw new HttpError(403, 'The request requires the scope submit')
    if (operations && !operations.includes(name)) throw new HttpError(403, `The key does not permit ${name}`)
  }
