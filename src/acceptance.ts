import { brand } from './primitives/brand.ts'

/** A request that an operation's `accept` turns into a job. */
export interface Entry<Input, Params, Payload = unknown> {
  /** The id of the future job, a UUIDv7. It can also be the id of the row that `accept` inserts. */
  id: string
  /** The request's body. */
  input: Input
  /** The request's path parameters. */
  params: Params
  /** The principal that sent the request, as returned by `authenticate`. */
  principal: string
  /**
   * The payload of the job with this id, which an earlier request has created and which still waits in the queue. What
   * `accept` returns replaces it. Only for an operation that coalesces requests with the mode `last`.
   */
  replaces?: Payload
}

/** What `accept` returns for an entry that becomes a job. */
export interface Acceptance<Payload> {
  /** The input of the worker. */
  payload: Payload
  /**
   * Path of the resource that the job creates, for example `/todos/1`. On success, the client is redirected to this
   * path.
   */
  resource?: string
  /**
   * The earliest start of the job. Not for operations that coalesce requests with the mode `last`: their jobs start at
   * the end of the window. Default: now.
   */
  runAt?: Date
}

/**
 * What `accept` returns for an entry that does not become a job. Create it with {@link refuse}. `instanceof` recognises
 * the refusals of every copy of this package.
 */
export class Refusal {
  readonly status: number
  readonly code: string
  readonly message: string

  static {
    brand(Refusal, 'accepted.Refusal', ({ status, code, message }) => {
      return isErrorStatus(status) && isText(code) && isText(message)
    })
  }

  constructor(status: number, code: string, message: string) {
    if (!isErrorStatus(status)) throw new TypeError(`refuse: status must be a 4xx, not ${status}`)
    if (!isText(code)) throw new TypeError("refuse: code must be a text like 'todo-not-found'")
    if (!isText(message)) throw new TypeError('refuse: message must be a sentence for the client')
    this.status = status
    this.code = code
    this.message = message
  }
}

const isErrorStatus = (status: unknown) =>
  Number.isInteger(status) && (status as number) >= 400 && (status as number) <= 499

const isText = (text: unknown) => typeof text === 'string' && text !== ''

/**
 * Refuses one entry in `accept`. The request of this entry gets the error. Nothing is stored for the request, and its
 * Idempotency-Key stays unused. The other entries are not affected.
 *
 * @param status the HTTP status, 400 to 499
 * @param code an error code for programs, in kebab-case, for example `todo-not-found`
 * @param message a sentence for the client
 * @throws TypeError when the status is not between 400 and 499, or when the code or the message is not a text
 */
export function refuse(status: number, code: string, message: string): Refusal {
  return new Refusal(status, code, message)
}
