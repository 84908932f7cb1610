import { type ProblemCode, problems } from './problems.ts'

/** An error that ends a request. Its code is a key of {@link problems}. */
export class ProblemError extends Error {
  override name = 'ProblemError'
  readonly code: ProblemCode
  readonly status: number
  readonly details: readonly unknown[]
  readonly retryAfterSeconds: number | undefined
  readonly headers: object

  /**
   * @param detail a sentence for the client that reveals no internals. Default: the title
   * @param options.details one value per violation
   * @param options.retryAfterSeconds the value of `Retry-After` in seconds, an integer of at least 1
   * @param options.headers more header fields of the response
   * @param options.status the status of the response. Default: that of the code
   */
  constructor(
    code: ProblemCode,
    detail: string = problems[code].title,
    options: {
      details?: readonly unknown[]
      retryAfterSeconds?: number
      headers?: object
      cause?: unknown
      status?: number | undefined
    } = {},
  ) {
    super(detail, { cause: options.cause })
    this.code = code
    this.status = options.status ?? problems[code].status
    this.details = options.details ?? []
    this.retryAfterSeconds = options.retryAfterSeconds
    this.headers = options.headers ?? {}
  }
}
