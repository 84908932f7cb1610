import { until } from './until.ts'

export interface JsonResponse {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the shape of its body
  body: any
}

/** The option `metricsToken` of an API whose metrics a test reads although it has an `authenticate` function. */
export const metricsToken = 'a-token-for-prometheus'

/** Reads the metrics of an API with {@link metricsToken}. */
export const readMetrics = async (url: string): Promise<string> =>
  (await get(`${url}/metrics`, { authorization: `Bearer ${metricsToken}` })).body

/** Posts JSON. */
export async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<JsonResponse> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  return { status: response.status, headers: response.headers, body: await readJson(response) }
}

/** Gets JSON, without following redirects. */
export async function get(url: string, headers: Record<string, string> = {}): Promise<JsonResponse> {
  const response = await fetch(url, { headers, redirect: 'manual' })
  return { status: response.status, headers: response.headers, body: await readJson(response) }
}

async function readJson(response: Response): Promise<unknown> {
  const text = await response.text()
  return text && response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text || undefined
}

/** Polls the status URL of a job until the job has ended. Resolves to the body of the last response. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows the shape of its body
export async function ended(monitorUrl: string): Promise<any> {
  return until(async () => {
    const { body } = await get(monitorUrl)
    return body.endedAt && body
  })
}
