import { execSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { delimiter, join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { JobFailed } from 'accepted/worker'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { startBrowser } from '../clients/browser.ts'
import { apiKey, startApp } from './app.ts'
import { bundle } from './bundle.ts'
import { startFaultyProxy } from './proxy.ts'

const script = await bundle("export * from 'accepted/client'")

/** A component that shows the job with the id in the hash of its URL. */
const component = await bundle(`
  import { createClient } from 'accepted/client'
  import { createElement, StrictMode } from 'react'
  import { createRoot } from 'react-dom/client'
  import { useJob } from './use-job.ts'

  const [url, id] = location.hash.slice(1).split(',')
  const client = createClient({ url, headers: { 'x-api-key': '${apiKey}' } })
  function View() {
    const { job, error } = useJob(client, id)
    return createElement('p', null, error ? error.code : job?.status)
  }
  createRoot(document.body).render(createElement(StrictMode, null, createElement(View)))`)

/** Serves the page with the client, from another origin than the API. */
const pages = createServer((request, response) => {
  const code = { '/client.js': script, '/component.js': component }[`${request.url}`]
  if (code) return response.setHeader('content-type', 'text/javascript').end(code)
  if (request.url?.startsWith('/react')) {
    return response
      .setHeader('content-type', 'text/html')
      .end('<body><script type="module" src="/component.js"></script>')
  }
  response
    .setHeader('content-type', 'text/html')
    .end('<script type="module">window.lib = await import("/client.js")</script>')
}).listen(0, '127.0.0.1')
await once(pages, 'listening')
t.teardown(() => void pages.close().closeAllConnections())
const origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`

function addRoutes(app: FastifyInstance): void {
  const cors = { 'access-control-allow-origin': origin, 'access-control-allow-headers': 'x-api-key' }
  app.get('/page', async (_request, reply) =>
    reply.type('text/html').send(await readFile(join(import.meta.dirname, 'page.html'))),
  )
  app.options('/notes/:id', async (_request, reply) => reply.headers(cors).send())
  app.get<{ Params: { id: string } }>('/notes/:id', async ({ params, headers }, reply) => {
    reply.headers(cors)
    if (params.id === 'moved') return reply.redirect('/notes/elsewhere')
    return { id: params.id, key: headers['x-api-key'] }
  })
}

const app = await startApp(t, { corsOrigins: [origin], prepare: addRoutes })
const proxy = await startFaultyProxy(t, app.url)
const open = await startBrowser(t)
const { page, problems } = await open(t)
await page.goto(origin)
await page.waitForFunction('window.lib')

/** Runs a function body in the page, which has `client`, `seen` and `errorOf`. */
const run = (body: string, url = app.url): Promise<unknown> =>
  page.evaluate(`(async () => {
    const client = window.lib.createClient({ url: '${url}', headers: { 'x-api-key': '${apiKey}' } })
    const seen = async (job) => {
      const all = []
      for await (const version of client.watch(job, { timeoutSeconds: 45 })) all.push(version.status)
      return all
    }
    const errorOf = (promise) => promise.then(() => undefined, ({ name, code, message, status, details, job }) => (
      { name, code, message, status, details, jobStatus: job?.status }))
    ${body}
  })()`)

/** What the promise of the docs, 4 kB, is rounded from. */
const maxBytes = 4_500

t.test('the client is small, and nothing of it remains in a bundle that does not use it', async (t) => {
  const sizes = { gzip: gzipSync(script).length, brotli: brotliCompressSync(script).length }
  t.comment(`minified: ${script.length} bytes, ${JSON.stringify(sizes)}`)
  t.ok(sizes.gzip < maxBytes && sizes.brotli < maxBytes, JSON.stringify(sizes))
  t.equal((await bundle("import { createClient } from 'accepted/client'")).trim(), '')
  t.notMatch(script, /typebox|fastify|node:/)
})

t.test('a page without a bundler imports the client from the API', async (t) => {
  const { page: view, problems } = await open(t)
  await view.goto(`${app.url}/page`)
  await view.getByRole('button').click()
  await view.getByText('6', { exact: true }).waitFor()
  t.same(problems, [])
  const answer = await fetch(`${app.url}/jobs/client.js`, { headers: { origin } })
  t.equal(answer.headers.get('access-control-allow-origin'), origin, 'pages of the listed origins can import it too')
  const root = join(import.meta.dirname, '../..')
  const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const toStdout = scripts['client:bundle'].replace(/ --outfile=\S+/, '')
  const env = { ...process.env, PATH: join(root, 'node_modules/.bin') + delimiter + process.env.PATH }
  const bundled = execSync(toStdout, { cwd: root, env, encoding: 'utf8' })
  t.ok((await answer.text()) === bundled, 'assets/client.js is up to date: npm run client:bundle')
})

t.test('a page of another origin submits, watches and reads results', async (t) => {
  t.same(
    await run(`
      const job = await client.submit('words.count', { text: 'a b' }, { params: { language: 'en' } })
      const versions = await seen(job)
      return [versions.at(-1), await client.result(job)]`),
    ['succeeded', { words: 2, language: 'en' }],
  )
  t.match(await run("return client.result(await client.submit('note.create', { text: 'a' }))"), { key: apiKey })
  t.match(await run("const job = await client.submit('idle', {}); return client.cancel(job.id)"), {
    status: 'canceled',
  })
  t.same(problems, [])
})

t.test('a failed job rejects with its error', async (t) => {
  app.perform('fails', async () => {
    throw new JobFailed('no-luck', 'No luck', { details: [1] })
  })
  const error = await run("return errorOf(client.result(await client.submit('steered', { name: 'fails' })))")
  t.same(error, { name: 'AcceptedError', code: 'no-luck', message: 'No luck', details: [1], jobStatus: 'failed' })
})

t.test('a resource that redirects is not followed with the headers', async (t) => {
  const { id } = (await run("return client.submit('note.create', { text: 'a' })")) as { id: string }
  await run(`return client.result('${id}')`)
  await app.database.pool.query("update accepted.job set resource = '/notes/moved' where id = $1", [id])
  t.match(await run(`return errorOf(client.result('${id}'))`), { code: 'redirected' })
})

t.test('a lost answer, a stream that is held back and a broken one cost neither a job nor a result', async (t) => {
  const isPreflight = (method: string | undefined) => method === 'OPTIONS'
  for (const fault of ['answer lost', 'answer cut', 'not sent'] as const) {
    const before = await app.count('words.count')
    const left = new Set(['PUT', 'GET'])
    proxy.choose = ({ method, url }) =>
      !isPreflight(method) && !url?.endsWith('openapi.json') && left.delete(`${method}`) ? fault : undefined
    t.same(
      await run(
        `const job = await client.submit('words.count', { text: 'a' }, { params: { language: 'en' } })
        return [(await seen(job)).at(-1), await client.result(job)]`,
        proxy.url,
      ),
      ['succeeded', { words: 1, language: 'en' }],
    )
    t.equal(left.size, 0)
    t.equal(await app.count('words.count'), before + 1, fault)
  }
  const finish = Promise.withResolvers<void>()
  app.perform('held', async (job) => {
    await finish.promise
    return job.payload
  })
  proxy.requests.length = 0
  proxy.choose = ({ url, headers }) => {
    // The handler ends once the client has given up the stream.
    if (headers.prefer && headers['if-none-match']) finish.resolve()
    return url?.endsWith('/events') ? 'held back' : undefined
  }
  t.match(await run("return seen(await client.submit('steered', { name: 'held' }))", proxy.url), /running|succeeded/)
  t.equal(proxy.requests.filter(({ route }) => /^GET .*events$/.test(route)).length, 1)
})

t.test('a React component follows a job, and shows an error', async (t) => {
  const finish = Promise.withResolvers<void>()
  app.perform('shown', async (job) => {
    await finish.promise
    return job.payload
  })
  const { id } = (await run("return client.submit('steered', { name: 'shown' })")) as { id: string }
  const { page: view, problems } = await open(t)
  const shows = (text: string) => view.getByText(text, { exact: true }).waitFor()
  await view.goto(`${origin}/react#${app.url},${id}`)
  await shows('running')
  finish.resolve()
  await shows('succeeded')
  await view.goto(`${origin}/react?2#${app.url},unknown`)
  await shows('not-found')
  t.same(
    problems.filter((problem) => !problem.includes('404')),
    [],
  )
})
