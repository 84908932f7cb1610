import Type, { type TSchema } from 'typebox'
import { type ProblemCode, problems } from '../errors.ts'
import { Monitor } from '../jobs/monitor.ts'
import type { Operation } from '../operation.ts'
import { Problem } from './problem.ts'

/** The header fields of our answers, as the OpenAPI document describes them. */
export const headerFields = {
  'Operation-Location': Type.String({ format: 'uri', description: 'The monitor of the job: 200 as long as it exists' }),
  'Content-Location': Type.String({ format: 'uri', description: 'What the body is: the monitor of the job' }),
  Location: Type.String({ format: 'uri-reference', description: 'Where to go on' }),
  'Retry-After': Type.Integer({ minimum: 1, description: 'Seconds until it is worth asking again' }),
  'Preference-Applied': Type.String({ description: 'What of Prefer was honoured (RFC 7240)' }),
  'Idempotent-Replayed': Type.Literal('true', { description: 'The job of an earlier request with the same key' }),
  ETag: Type.String({ pattern: '^"[0-9]+"$', description: 'The sequence of the job, in quotes' }),
  'Cache-Control': Type.String(),
  Vary: Type.String(),
  Link: Type.String({ description: 'The next page: `<…>; rel="next"` (RFC 8288)' }),
  'WWW-Authenticate': Type.String(),
  RateLimit: Type.String({ description: 'What is left of the quota, and in how many seconds it is renewed' }),
  'RateLimit-Policy': Type.String({ description: 'The quota and its window in seconds' }),
} as const

export type HeaderField = keyof typeof headerFields

export interface ResponseOptions {
  headers?: readonly HeaderField[]
}

// The latter where there is a limit.
const everywhere = ['Cache-Control', 'RateLimit', 'RateLimit-Policy'] as const satisfies HeaderField[]

const declareHeaders = (names: readonly HeaderField[] = []) => ({
  headers: Object.fromEntries([...names, ...everywhere].map((name) => [name, headerFields[name]])),
})

/** Declares further header fields of answers. */
export const alsoWith = <Response extends object>(
  headers: readonly HeaderField[],
  responses: Record<string, Response>,
) =>
  Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      {
        ...response,
        headers: { ...('headers' in response && Object(response.headers)), ...declareHeaders(headers).headers },
      },
    ]),
  )

/** Declares an answer with a body of a media type. */
export const withBody = (description: string, mediaType: string, schema: TSchema, options: ResponseOptions = {}) => ({
  description,
  ...declareHeaders(options.headers),
  content: { [mediaType]: { schema } },
})

/** Declares an answer without a body. */
export const withoutBody = (description: string, options: ResponseOptions = {}) => ({
  description,
  ...declareHeaders(options.headers),
  type: 'null' as const,
})

/** Declares an answer with the monitor of a job. */
export const withMonitor = (description: string, options?: ResponseOptions) =>
  withBody(description, 'application/json', Monitor, options)

/** The header fields of a 202. */
export const acceptedHeaders = [
  ...(['Operation-Location', 'Content-Location', 'Location', 'Retry-After'] as const),
  ...(['Preference-Applied', 'Idempotent-Replayed'] as const),
] satisfies HeaderField[]

/** The header fields of the answer to a client that waited for the end. */
const endHeaders = acceptedHeaders.filter((name) => name !== 'Retry-After')

/** Declares the way to the resource, for a client that waited for the end and asked for it. */
export const withResource = () =>
  withoutBody('It has succeeded in time, and `Prefer: return=representation` asked for the resource', {
    headers: endHeaders.filter((name) => name !== 'Content-Location'),
  })

/**
 * Declares the answer to a client that waited for the end with `Prefer: wait`.
 *
 * @param operations what it may be the end of
 */
export const withEnd = (...operations: Operation[]) =>
  withBody(
    'The job has ended in time: its monitor, or with `Prefer: return=representation` its inline result',
    'application/json',
    oneOf(Monitor, ...operations.flatMap(({ schemas }) => schemas.result ?? [])),
    { headers: endHeaders },
  )

const oneOf = (...schemas: [TSchema, ...TSchema[]]) => (schemas.length > 1 ? Type.Union(schemas) : schemas[0])

/** What every route may answer. */
const anywhere: ProblemCode[] = [
  'unauthenticated',
  'too-many-requests',
  'bad-request',
  'not-acceptable',
  'request-timeout',
  'headers-too-large',
  'internal-error',
  'database-unavailable',
]

/** Declares the problems that a route may answer with, by status, and those that every route may. */
export function withProblems(...codes: ProblemCode[]) {
  const byStatus = Map.groupBy([...codes, ...anywhere], (code) => problems[code].status)
  return Object.fromEntries(
    [...byStatus].map(([status, ofStatus]) => {
      const description = ofStatus.map((code) => `\`${code}\`: ${problems[code].title}`).join('; ')
      const mayRetry = status === 429 || status === 503 || ofStatus.includes('idempotency-key-locked')
      const headers: HeaderField[] = [
        ...(mayRetry ? (['Retry-After'] as const) : []),
        ...(status === 401 ? (['WWW-Authenticate'] as const) : []),
      ]
      return [status, withBody(description, 'application/problem+json', Problem, { headers })]
    }),
  )
}
