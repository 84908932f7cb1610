/** The member `error` of problem details. */
interface ErrorMember {
  code: string
  message: string
  details?: readonly unknown[]
}

/** Thrown by `submit` when the request is refused. Nothing is stored then. */
export class SubmitRefused extends Error {
  override name = 'SubmitRefused'
  /** The HTTP status that a client gets, for example 400. */
  readonly status: number
  /** For example `invalid-body`, or the code that the operation's `accept` passed to `refuse`. */
  readonly code: string
  /** What is wrong with the request, for example `{ pointer: '/title', … }`. */
  readonly details: readonly unknown[]

  constructor(operation: string, status: number, { code, message, details = [] }: ErrorMember) {
    const list = details.map((detail) => `\n  ${JSON.stringify(detail)}`).join('')
    super(`${operation} was refused with ${status} ${code}: ${message}${list}`)
    this.status = status
    this.code = code
    this.details = details
  }
}
