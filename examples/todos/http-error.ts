/** An error whose text the client may see: the API answers with problem details and this status. */
export class HttpError extends Error {
  readonly statusCode: number

  /** @param statusCode 400 to 499 */
  constructor(statusCode: number, message: string) {
    super(message)
    this.statusCode = statusCode
  }
}
