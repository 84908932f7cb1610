import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { headerLines } from './headers.ts'
import { findJsonViolations, type JsonViolation } from './strict-json.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses JSON bodies strictly. Refuses encodings other than UTF-8, content encodings, and everything that would be
 * altered silently or that Postgres cannot store: see {@link findJsonViolations}.
 */
export function parseJsonStrictly(app: FastifyInstance): void {
  // Removes Fastify's default parsers, because they also accept text/plain.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Some clients send a Content-Type with a DELETE request that has no body.
    if (request.method === 'DELETE' && body.length === 0) return done(null, undefined)
    try {
      refuseContentEncoding(request)
      done(null, parseJson(body as Buffer, 0, request.routeOptions.bodyLimit))
    } catch (error) {
      done(error as Error)
    }
  })
}

/**
 * Parses a JSON text in UTF-8.
 *
 * @param outerLevels see {@link findJsonViolations}
 * @param maxLength see {@link findJsonViolations}
 * @throws ProblemError malformed-json, invalid-body
 */
export function parseJson(bytes: Uint8Array, outerLevels = 0, maxLength = 0): unknown {
  const text = decode(bytes)
  const value = parse(text)
  const details = findJsonViolations(text, outerLevels, maxLength)
  if (details.length === 0) return value
  const isPrototype = details.some(({ keyword }) => keyword === 'prototype')
  throw new ProblemError(isPrototype ? 'malformed-json' : 'invalid-body', undefined, { details })
}

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch (error) {
    throw new ProblemError('malformed-json', 'The body is not UTF-8', { cause: error })
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ProblemError('malformed-json', undefined, { cause: error })
  }
}

/** Refuses compressed bodies. Their bytes would not be JSON. */
export function refuseContentEncoding(request: FastifyRequest): void {
  if (request.headers['content-encoding'] === undefined) return
  const codings = headerLines(request, 'content-encoding').join(',').split(',')
  if (codings.every((coding) => /^\s*(identity\s*)?$/i.test(coding))) return
  throw new ProblemError('unsupported-media-type', 'Send the body without Content-Encoding')
}

/** Ignores request bodies of any media type. */
export function ignoreBodies(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
  // Without this hook, Fastify would answer 415 for a malformed Content-Type.
  scope.addHook('onRequest', async ({ headers }) => {
    delete headers['content-type']
  })
}

/** Finds path or query parameters that Postgres cannot store. */
export const findUnstorable = (parameters: unknown): JsonViolation[] =>
  findJsonViolations(JSON.stringify(parameters) ?? '')
