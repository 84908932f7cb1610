import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import Type, { type Static } from 'typebox'
import { createErrorReporter } from '../../db/error-reporter.ts'
import { errorCode, isContention, isOutage, sqlstate } from '../../db/sqlstate.ts'
import { ProblemError } from '../../errors.ts'
import { redact } from '../../primitives/redact.ts'
import { readable } from '../../primitives/thrown.ts'
import { type ProblemCode, problems } from '../../problems.ts'
import { staticPageHeaders } from '../pages/layout.ts'
import { renderRefusal } from '../pages/problem.ts'
import { wantsPage } from './negotiate.ts'
import { pathOf } from './request-target.ts'
import { dataHeaders } from './security-headers.ts'
import { isInformative, toViolation } from './violation.ts'

/** Problem details (RFC 9457) without the member `status`. Clients that poll could take it for the job's status. */
export const Problem = Type.Object(
  {
    type: Type.String({ format: 'uri-reference' }),
    title: Type.String(),
    detail: Type.Optional(Type.String()),
    instance: Type.Optional(Type.String({ format: 'uri-reference' })),
    error: Type.Object({
      code: Type.String(),
      message: Type.String(),
      details: Type.Optional(Type.Array(Type.Unknown())),
    }),
  },
  { title: 'Problem' },
)

export type Problem = Static<typeof Problem>

export const problemMediaType = 'application/problem+json; charset=utf-8'

declare module 'fastify' {
  interface FastifyInstance {
    /** The paths in the problem details that this scope answers with. */
    problemPaths: ProblemPaths
  }
}

export interface ProblemPaths {
  /** The path of the public URL, which a proxy removes from each request. Empty if there is none. */
  publicPath: string
  /** The path of the pages that explain problem codes, as clients see it. */
  pages: string
}

const defaultProblemPaths: ProblemPaths = { publicPath: '', pages: '/docs/problems' }

export interface ProblemOptions {
  /** A key of {@link problems}, or a code that the app defines. Codes of the app have no documentation page. */
  code: string
  title: string
  message: string
  details?: readonly unknown[] | undefined
  /** Absent if Node refused the request before it was parsed. */
  request?: FastifyRequest
}

/** Creates problem details. */
export function toProblem(
  { code, title, message, details, request }: ProblemOptions,
  { publicPath, pages }: ProblemPaths = request?.server.problemPaths ?? defaultProblemPaths,
): Problem {
  return {
    type: Object.hasOwn(problems, code) ? `${pages}/${code}` : 'about:blank',
    title,
    detail: message,
    ...(request && { instance: publicPath + pathOf(request) }),
    error: { code, message, ...(details && details.length > 0 && { details: [...details] }) },
  }
}

/**
 * Answers with problem details.
 *
 * @param paths default: the paths of the scope that the request belongs to
 */
export function sendProblem(
  request: FastifyRequest,
  reply: FastifyReply,
  error: ProblemError,
  paths?: ProblemPaths,
): FastifyReply {
  if (error.retryAfterSeconds) reply.header('retry-after', error.retryAfterSeconds)
  if (error.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer')
  const { code, status, message, details } = error
  const title = status === problems[code].status ? problems[code].title : (STATUS_CODES[status] ?? code)
  reply.code(status).headers({ ...dataHeaders, ...error.headers, 'cache-control': 'no-store' })
  if (wantsPage(request)) {
    const { pages } = paths ?? request.server.problemPaths ?? defaultProblemPaths
    // A browser repeats a form as GET.
    const refreshSeconds = request.method === 'GET' ? error.retryAfterSeconds : undefined
    const refusal = { status, title, message, code, details, pages, refreshSeconds }
    return reply.headers({ ...staticPageHeaders, vary: 'Accept' }).send(renderRefusal(refusal))
  }
  const problem = toProblem({ code, title, message, details, request }, paths)
  return reply.header('content-type', problemMediaType).send(JSON.stringify(problem))
}

/**
 * Fastify's error handler for the plugin's routes. It answers every error with problem details. The text of an error
 * that the app's code has thrown does not reach the client: it may contain names of hosts, SQL or other people's data.
 */
export function handleError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return answer(asProblem(thrown), thrown, request, reply)
}

/**
 * Fastify's error handler for the app's own routes under `accepted api`. As usual with Fastify, the text of an error
 * with a `statusCode` from 400 to 499 is for the client.
 */
export function handleOwnError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return answer(asProblem(thrown, { isTextPublic: true }), thrown, request, reply)
}

function answer(problem: ProblemError, thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  // The hook `onError` has already answered, because a job is committed.
  if (reply.sent) return reply
  reportProblem(problem, thrown, request)
  return sendProblem(request, reply, problem)
}

/** Logs an error of the server. */
export function reportProblem(problem: ProblemError, thrown: unknown, request: FastifyRequest): void {
  if (problem.code === 'database-unavailable') logUnavailable(request, problem)
  else if (problem.status >= 500) request.log.error({ err: readable(thrown) }, problem.message)
}

/** Logs an outage once per minute, not once per request. */
function logUnavailable({ log }: FastifyRequest, problem: ProblemError): void {
  if (!isOutage(problem.cause)) {
    const reason = problem.cause instanceof Error ? problem.cause.message : problem.message
    log.warn({ reason: redact(reason) }, 'The request was answered with 503')
    return
  }
  createErrorReporter(log as Logger)(problem.cause, 'Requests are answered with 503')
}

/** Answers a request for which there is no route. */
export function handleNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return sendProblem(
    request,
    reply,
    new ProblemError('not-found', `There is no route ${request.method} ${pathOf(request)}`),
  )
}

const fastifyErrorCodes: Readonly<Record<string, ProblemCode>> = {
  // The path cannot be decoded, or it contains an id that is too long. No resource has such a path.
  FST_ERR_BAD_URL: 'not-found',
  FST_ERR_MAX_PARAM_LENGTH: 'not-found',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed-json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed-json',
}

/** The problems that stand for the status of an error that Fastify, a plugin or the app has thrown. */
const codesByStatus: Readonly<Record<number, ProblemCode>> = {
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not-found',
  406: 'not-acceptable',
  408: 'request-timeout',
  413: 'body-too-large',
  415: 'unsupported-media-type',
  429: 'too-many-requests',
}

/** Returns the code for the `statusCode` of an error. Returns undefined if it is not from 400 to 499. */
export function codeOfStatus(statusCode: unknown): ProblemCode | undefined {
  const status = Number(statusCode)
  return status >= 400 && status < 500 ? (codesByStatus[status] ?? 'bad-request') : undefined
}

/** Makes the error of the response from what was thrown. */
export function asProblem(thrown: unknown, { isTextPublic = false } = {}): ProblemError {
  const error = readable(thrown)
  if (error instanceof ProblemError) return error
  // A DBA may limit how long statements take.
  if (isOutage(error) || isContention(error) || errorCode(error) === sqlstate.queryCanceled) {
    return new ProblemError('database-unavailable', undefined, { retryAfterSeconds: 1, cause: error })
  }
  const { code, statusCode, validation, validationContext, message, expose } = Object(
    error,
  ) as Partial<FastifyError> & {
    expose?: unknown
  }
  if (validation && code === 'FST_ERR_VALIDATION') {
    const invalidCode = validationContext === 'body' ? 'invalid-body' : 'invalid-parameter'
    return new ProblemError(invalidCode, undefined, { details: validation.filter(isInformative).map(toViolation) })
  }
  if (code && Object.hasOwn(fastifyErrorCodes, code)) {
    return new ProblemError(fastifyErrorCodes[code] as ProblemCode, undefined, { cause: error })
  }
  const problemCode = codeOfStatus(statusCode)
  if (!problemCode) return new ProblemError('internal-error', undefined, { cause: error })
  // The package http-errors sets `expose` if the text is for the client.
  const isPublic = isTextPublic || expose === true || `${code}`.startsWith('FST_')
  // Routes of the app have their own statuses, for example 409 and 422.
  const status = isTextPublic ? Number(statusCode) : undefined
  return new ProblemError(problemCode, isPublic ? `${message}` : undefined, { cause: error, status })
}
