import { createHttpPoller, type OperationResponse, type ResourceLocationConfig } from '@azure/core-lro'
import t from 'tap'
import { ended, post } from '../support/client.ts'
import { startApp } from './app/start.ts'

const app = await startApp(t)

// biome-ignore lint/suspicious/noExplicitAny: the tests check bodies
type Body = any

/** Sends a request like Azure's SDKs: follows redirects, and throws a RestError if the status is not 2xx. */
async function send(
  method: string,
  url: string,
  body?: object,
  signal?: AbortSignal,
): Promise<OperationResponse<Body>> {
  const response = await fetch(url, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    ...(signal && { signal }),
  })
  const text = await response.text()
  const parsed = text === '' ? undefined : JSON.parse(text)
  if (!response.ok) throw Object.assign(new Error(text), { name: 'RestError', statusCode: response.status })
  const headers = Object.fromEntries(response.headers)
  return {
    flatResponse: parsed,
    rawResponse: { statusCode: response.status, headers, body: parsed, request: { method, url } },
  }
}

interface PollOptions {
  resourceLocationConfig?: ResourceLocationConfig
  restoreFrom?: string
  /** Simulates a service that sends Location but not Operation-Location. */
  withoutOperationLocation?: boolean
}

function poll(method: string, path: string, body?: object, options: PollOptions = {}) {
  const { withoutOperationLocation, ...pollerOptions } = options
  const polled: string[] = []
  const progress: unknown[] = []
  const poller = createHttpPoller<Body, { status: 'running' | 'succeeded' | 'failed' | 'canceled' | 'notStarted' }>(
    {
      sendInitialRequest: async () => {
        const response = await send(method, app.url + path, body)
        if (withoutOperationLocation) delete response.rawResponse.headers['operation-location']
        return response
      },
      sendPollRequest: (url, { abortSignal } = {}) => {
        polled.push(url)
        return send('GET', url, undefined, abortSignal as AbortSignal | undefined)
      },
    },
    {
      ...pollerOptions,
      intervalInMs: 50,
      updateState: (_state, { rawResponse }) => void progress.push((rawResponse.body as Body)?.percentComplete),
    },
  )
  return { poller, polled, progress }
}

for (const resourceLocationConfig of [undefined, 'operation-location', 'location', 'azure-async-operation'] as const) {
  const options = { ...(resourceLocationConfig && { resourceLocationConfig }) }
  const configuration = resourceLocationConfig ?? 'default'

  t.test(`the poller of a POST returns the resource (resourceLocationConfig: ${configuration})`, async (t) => {
    const { poller, polled } = poll('POST', '/documents', { text: 'A letter' }, options)
    const result = await poller.pollUntilDone()
    t.match(result, { text: 'A letter', state: 'ready' })
    t.equal(poller.operationState?.status, 'succeeded')
    t.equal(polled.at(-1), `${app.url}/documents/${result.id}`, 'the last request is for the resource')
    t.same(
      new Set(polled.slice(0, -1)),
      new Set([`${app.url}/jobs/${result.id}`]),
      'all earlier requests are for the monitor',
    )
  })

  t.test(
    `the poller of a POST returns the inline result or the monitor (resourceLocationConfig: ${configuration})`,
    async (t) => {
      const { poller } = poll('POST', '/word-counts', { text: 'three small words' }, options)
      const result = await poller.pollUntilDone()
      const isMonitor =
        resourceLocationConfig === 'operation-location' || resourceLocationConfig === 'azure-async-operation'
      t.match(result, isMonitor ? { status: 'succeeded', result: { words: 3 } } : { words: 3 })
      t.equal(result.words === undefined, isMonitor)
    },
  )
}

t.test('the poller of a PUT returns the resource', async (t) => {
  const { poller, polled } = poll('PUT', '/documents/azure', { text: 'A letter' })
  t.same(await poller.pollUntilDone(), { id: 'azure', text: 'A letter', state: 'ready' })
  t.match(polled[0], /\/jobs\/[0-9a-f-]{36}$/)
  t.equal(polled.at(-1), `${app.url}/documents/azure`)
})

t.test('the poller of a DELETE returns the final monitor', async (t) => {
  await poll('PUT', '/documents/to-be-removed', { text: 'A letter' }).poller.pollUntilDone()
  const { poller, polled } = poll('DELETE', '/documents/to-be-removed')
  t.match(await poller.pollUntilDone(), { operation: 'document.remove', status: 'succeeded' })
  t.ok(polled.every((url) => /\/jobs\/[0-9a-f-]{36}$/.test(url)))
  t.equal((await fetch(`${app.url}/documents/to-be-removed`)).status, 404)
})

t.test('a poller that gets only Location returns the resource or rejects with the error', async (t) => {
  const options = { withoutOperationLocation: true }
  const { poller, polled } = poll('POST', '/documents', { text: 'A letter' }, options)
  t.match(await poller.pollUntilDone(), { text: 'A letter', state: 'ready' })
  t.ok(polled.every((url) => /\/jobs\/[0-9a-f-]{36}\/result$/.test(url)))
  const refused = poll('POST', '/checks', { text: 'There is a comma too many' }, options)
  await t.rejects(refused.poller.pollUntilDone(), { name: 'RestError', statusCode: 422, message: /a comma too many/ })
  t.equal(refused.poller.operationState?.status, 'failed')
})

t.test('the poller of a failed job rejects with the error of the job', async (t) => {
  const { poller } = poll('POST', '/checks', { text: 'There is a comma too many' })
  await t.rejects(poller.pollUntilDone(), { message: /failed\. text-refused\. There is a comma too many/ })
  t.equal(poller.operationState?.status, 'failed')
})

t.test('the poller of a canceled job rejects', async (t) => {
  const { poller } = poll('POST', '/renderings', { name: 'canceled' })
  const rejected = t.rejects(poller.pollUntilDone(), { message: 'Operation was canceled' })
  await poller.submitted()
  const { config } = poller.operationState as unknown as { config: { operationLocation: string } }
  await post(`${config.operationLocation}/cancel`, {})
  await rejected
  t.equal(poller.operationState?.status, 'canceled')
})

t.test(
  'a poller reports progress; if it is aborted, the job continues, and a new poller can resume from the saved state',
  async (t) => {
    const { poller, progress } = poll('POST', '/renderings', { name: 'aborted' })
    await app.steer('aborted', { percent: 40, message: 'Reading' })
    const controller = new AbortController()
    poller.onProgress(() => {
      if (progress.at(-1) === 40) controller.abort()
    })
    await t.rejects(poller.pollUntilDone({ abortSignal: controller.signal }), { name: 'AbortError' })
    t.equal(poller.operationState?.status, 'running')
    const again = poll('POST', '/nowhere', {}, { restoreFrom: await poller.serialize() })
    await app.steer('aborted', { ending: 'succeed' })
    const document = await again.poller.pollUntilDone()
    t.match(document, { text: 'aborted' })
    t.match(await ended(`${app.url}/jobs/${document.id}`), { status: 'succeeded', cancelRequested: false })
  },
)
