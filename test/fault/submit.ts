import { randomUUID } from 'node:crypto'
import { sendRequest } from './client.ts'
import type { RowContext } from './row.ts'

export interface SubmitOptions {
  /** Members of the body besides the token. */
  body?: object
  /** Whether to send an Idempotency-Key. */
  withKey?: boolean
}

/** An intent that was accepted. */
export interface Submitted {
  token: string
  jobUrl: string
}

/**
 * Submits one intent, with a single request.
 *
 * @throws Error if the request is not accepted
 */
export async function submitOne(
  { apis, journal }: RowContext,
  path: string,
  { body = {}, withKey = false }: SubmitOptions = {},
): Promise<Submitted> {
  const url = apis[0]?.url
  const token = randomUUID()
  const key = withKey ? `key-${token}` : undefined
  await journal.append({ token, event: 'invoked', ...(key && { key }) })
  const outcome = await sendRequest(`${url}${path}`, { ...body, token }, key)
  await journal.append({ token, ...(key && { key }), ...outcome })
  if (outcome.event !== 'acknowledged') throw new Error(`The request was not accepted: ${outcome.reason}`)
  return { token, jobUrl: `${url}/jobs/${outcome.job}` }
}

/** Submits intents one after another. Returns their tokens. */
export async function submit(context: RowContext, path: string, count: number, body: object = {}): Promise<string[]> {
  const tokens: string[] = []
  for (let n = 0; n < count; n++) tokens.push((await submitOne(context, path, { body })).token)
  return tokens
}
