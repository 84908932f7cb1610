import type { Monitor } from '../jobs/monitor-schema.ts'

/** What an {@link AcceptedError} says besides its message. */
export interface ErrorDescription {
  /** An error code of the API, of an operation or of the job, or one of those that the client makes. */
  code: string
  /** The HTTP status; undefined if the API has not answered, or if the job has failed. */
  status?: number | undefined
  details?: readonly unknown[] | undefined
  /** The monitor of the job, if it has failed or was canceled. */
  job?: Monitor | undefined
  /** What the API asked for with the header Retry-After, in seconds. */
  retryAfterSeconds?: number | undefined
  cause?: unknown
}

/** A request that was refused or not answered, or a job that failed or was canceled. `code` tells which. */
export class AcceptedError extends Error {
  override readonly name = 'AcceptedError'
  readonly code: string
  readonly status: number | undefined
  readonly details: readonly unknown[]
  readonly job: Monitor | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(message: string, { code, status, details = [], job, retryAfterSeconds, cause }: ErrorDescription) {
    super(message, { cause })
    this.code = code
    this.status = status
    this.details = details
    this.job = job
    this.retryAfterSeconds = retryAfterSeconds
  }
}

const transientStatuses: readonly (number | undefined)[] = [408, 425, 429, 502, 503, 504]

/** Returns whether the same request may succeed later. */
export const isTransient = (error: unknown): error is AcceptedError =>
  error instanceof AcceptedError &&
  (error.code === 'network-error' ||
    error.code === 'idempotency-key-locked' ||
    transientStatuses.includes(error.status))

/** Makes the error of a job that failed or was canceled. */
export function jobError(job: Monitor): AcceptedError {
  const { code, message, details } = job.error ?? { code: 'operation-canceled', message: 'The job was canceled' }
  return new AcceptedError(message, { code, details, job })
}

/** Makes the error of a response that is not successful. */
export async function responseError(response: Response): Promise<AcceptedError> {
  const { status, headers, type, url } = response
  if (type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    const message = `${url} redirects. The client does not send its headers to other URLs`
    return new AcceptedError(message, { code: 'redirected', status })
  }
  let problem: Problem = {}
  try {
    problem = JSON.parse(await response.text())
  } catch {
    // For example the page of a proxy.
  }
  const { code = 'http-error', message, details } = problem?.error ?? {}
  return new AcceptedError(message ?? problem?.detail ?? `${url} answered with the HTTP status ${status}`, {
    ...{ code, status, details },
    retryAfterSeconds: retryAfterOf(headers),
  })
}

/** Problem details (RFC 9457) of the API. */
interface Problem {
  detail?: string
  error?: { code?: string; message?: string; details?: unknown[] }
}

/** Reads the header Retry-After (RFC 9110, section 10.2.3): seconds or a date. */
export function retryAfterOf(headers: Headers): number | undefined {
  const value = headers.get('retry-after')
  if (value === null) return undefined
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return seconds >= 0 ? seconds : undefined
}
