import Type, { type TSchema } from 'typebox'
import { type ProblemCode, problems } from '../../errors.ts'
import { Monitor } from '../../jobs/monitor.ts'
import type { Operation } from '../../operation.ts'
import { Problem } from './problem.ts'

/** The header fields of responses, as the OpenAPI document describes them. */
export const headerFields = {
  'Operation-Location': Type.String({
    format: 'uri',
    description: 'The monitor of the job; it answers 200 as long as the job is recorded',
  }),
  'Content-Location': Type.String({ format: 'uri', description: 'The URL of the body: the monitor of the job' }),
  Location: Type.String({ format: 'uri-reference', description: 'The next URL to request' }),
  'Retry-After': Type.Integer({ minimum: 1, description: 'Seconds to wait before the next request' }),
  'Preference-Applied': Type.String({ description: 'The preferences that were honoured (RFC 7240)' }),
  'Idempotent-Replayed': Type.Literal('true', {
    description: 'The job was created by an earlier request with the same key',
  }),
  ETag: Type.String({ pattern: '^"[0-9]+"$', description: 'The sequence of the job, in quotes' }),
  'Cache-Control': Type.String(),
  Vary: Type.String(),
  Link: Type.String({ description: 'The next page: `<…>; rel="next"` (RFC 8288)' }),
  'WWW-Authenticate': Type.String(),
  RateLimit: Type.String({ description: 'Requests left in the quota, and seconds until it is reset' }),
  'RateLimit-Policy': Type.String({ description: 'The quota, and its window in seconds' }),
} as const

export type HeaderField = keyof typeof headerFields

export interface ResponseOptions {
  headers?: readonly HeaderField[]
}

// The RateLimit fields are sent only if there is a limit.
const commonHeaders = ['Cache-Control', 'RateLimit', 'RateLimit-Policy'] as const satisfies HeaderField[]

const declareHeaders = (names: readonly HeaderField[] = []) => ({
  headers: Object.fromEntries([...names, ...commonHeaders].map((name) => [name, headerFields[name]])),
})

/** Adds header fields to responses that are declared already. */
export const addHeaders = <Response extends object>(
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

/** Declares a response with a body. */
export const bodyResponse = (
  description: string,
  mediaType: string,
  schema: TSchema,
  options: ResponseOptions = {},
) => ({
  description,
  ...declareHeaders(options.headers),
  content: { [mediaType]: { schema } },
})

/** Declares a response without a body. */
export const emptyResponse = (description: string, options: ResponseOptions = {}) => ({
  description,
  ...declareHeaders(options.headers),
  type: 'null' as const,
})

/** Declares a response whose body is the monitor of a job. */
export const monitorResponse = (description: string, options?: ResponseOptions) =>
  bodyResponse(description, 'application/json', Monitor, options)

/** The header fields of a 202. */
export const acceptedHeaders = [
  ...(['Operation-Location', 'Content-Location', 'Location', 'Retry-After'] as const),
  ...(['Preference-Applied', 'Idempotent-Replayed'] as const),
] satisfies HeaderField[]

const endedHeaders = acceptedHeaders.filter((name) => name !== 'Retry-After')

/**
 * Declares the 200 for a client that waits for the end of the job with `Prefer: wait`.
 *
 * @param operations the operations whose inline result the body may contain
 */
export const endedResponse = (...operations: Operation[]) =>
  bodyResponse(
    'The job ended while the request waited: its monitor, or its inline result with `Prefer: return=representation`',
    'application/json',
    oneOf(Monitor, ...operations.flatMap(({ schemas }) => schemas.result ?? [])),
    { headers: endedHeaders },
  )

/** Declares the 303 to the resource, for `Prefer: wait` and `return=representation` when the job succeeded in time. */
export const resourceResponse = () =>
  emptyResponse(
    'The job succeeded while the request waited, and `Prefer: return=representation` asks for its resource',
    {
      headers: endedHeaders.filter((name) => name !== 'Content-Location'),
    },
  )

const oneOf = (...schemas: [TSchema, ...TSchema[]]) => (schemas.length > 1 ? Type.Union(schemas) : schemas[0])

/** The problems that any route may answer with. */
const commonProblems: ProblemCode[] = [
  'unauthenticated',
  'too-many-requests',
  'bad-request',
  'not-acceptable',
  'request-timeout',
  'headers-too-large',
  'internal-error',
  'database-unavailable',
]

/** Declares, by status, the problems that a route may answer with, in addition to those of all routes. */
export function problemResponses(...codes: ProblemCode[]) {
  const codesByStatus = Map.groupBy([...codes, ...commonProblems], (code) => problems[code].status)
  return Object.fromEntries(
    [...codesByStatus].map(([status, sameStatus]) => {
      const description = sameStatus.map((code) => `\`${code}\`: ${problems[code].title}`).join('; ')
      const hasRetryAfter = status === 429 || status === 503 || sameStatus.includes('idempotency-key-locked')
      const headers: HeaderField[] = [
        ...(hasRetryAfter ? (['Retry-After'] as const) : []),
        ...(status === 401 ? (['WWW-Authenticate'] as const) : []),
      ]
      return [status, bodyResponse(description, 'application/problem+json', Problem, { headers })]
    }),
  )
}
