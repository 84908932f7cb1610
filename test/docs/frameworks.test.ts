import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { transform } from 'esbuild'
import t, { type Test } from 'tap'
import { get, post } from '../support/client.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { readPages } from './markdown.ts'
import { createProject } from './project.ts'

const orderId = '0199a0a0-0000-7000-8000-000000000001'
const user = { 'x-user': 'ann' }

/** Starts the programs of the page in one process. Hono stands for the server of Next, and calls its route handlers. */
const driver = (ports: readonly number[]) => `
  import { createAdaptorServer } from '@hono/node-server'
  import { Hono } from 'hono'

  const [next, ...ports] = ${JSON.stringify(ports)}
  for (const [index, file] of ['express.ts', 'hono.ts', 'nest.mjs'].entries()) {
    process.env.PORT = String(ports[index])
    await import('./' + file)
  }
  const api = await import('./app/api/[[...path]]/route.ts')
  const own = await import('./app/orders/[id]/invoice/route.ts')
  const app = new Hono()
  app.all('/api/*', ({ req }) => api[req.method](req.raw))
  app.post('/orders/:id/invoice', ({ req }) => own.POST(req.raw, { params: Promise.resolve(req.param()) }))
  createAdaptorServer({ fetch: app.fetch }).listen(next, '127.0.0.1', () => console.log('ready'))
`

async function startPrograms(t: Test, databaseUrl: string): Promise<Record<string, string>> {
  const project = await createProject(t)
  const page = readPages().find(({ name }) => name === 'docs/frameworks.md')
  for (const { file, text: code, marker } of page?.blocks ?? []) {
    if (file) await project.write(file, code)
    // Node.js runs no decorators.
    if (marker !== 'illustration' || !code.includes('handler.node')) continue
    const tsconfigRaw = { compilerOptions: { experimentalDecorators: true } }
    await project.write('examples/billing/nest.mjs', (await transform(code, { loader: 'ts', tsconfigRaw })).code)
  }
  const ports = [await freePort(), await freePort(), await freePort(), await freePort()]
  await project.write('examples/billing/driver.mjs', driver(ports))
  const child = spawn(process.execPath, ['--conditions=accepted-source', 'examples/billing/driver.mjs'], {
    cwd: project.directory,
    env: { ...process.env, DATABASE_URL: asRole(databaseUrl, 'api') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const errors = text(child.stderr)
  t.teardown(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    // The frameworks print the errors that the tests cause.
    if (!t.passing()) t.comment(await errors)
  })
  for await (const line of createInterface(child.stdout)) if (line === 'ready') break
  child.stdout.resume()
  const names = ['Next', 'Express', 'Hono', 'NestJS']
  return Object.fromEntries(names.map((name, index) => [name, `http://127.0.0.1:${ports[index]}`]))
}

t.test('docs/frameworks.md', async (t) => {
  const databaseUrl = await createDatabase(t)
  await queryOnce(
    databaseUrl,
    `create table "order" (id uuid primary key, status text not null);
    grant all on "order" to accepted_api`,
  )
  const programs = await startPrograms(t, databaseUrl)
  for (const [name, url] of Object.entries(programs)) {
    t.test(`${name} serves the routes of the operations`, async (t) => {
      t.equal((await post(`${url}/api/invoices`, { orderId })).status, 401)
      const { status, headers, body } = await post(`${url}/api/invoices`, { orderId }, user)
      t.equal(status, 202)
      t.equal(headers.get('location'), `${url}/api/jobs/${body.id}/result`)
      const events = await fetch(body.links.events, { headers: user })
      t.match(await post(body.links.cancel, {}, user), { status: 200, body: { status: 'canceled' } })
      t.match(await events.text(), `"id":"${body.id}","operation":"invoice.send","status":"canceled"`)
      t.match(await post(`${url}/api/invoices`, { orderId: 7 }, user), { status: 400 })
    })

    t.test(`a route of the app in ${name} writes its row and enqueues in one transaction`, async (t) => {
      const read = async () => ({
        orders: await queryOnce(databaseUrl, 'select status from "order"'),
        jobs: await queryOnce(databaseUrl, "select id from accepted.job where status = 'queued'"),
      })
      await queryOnce(databaseUrl, 'truncate "order", accepted.job')
      await queryOnce(databaseUrl, 'insert into "order" values ($1, $2)', [orderId, 'open'])
      t.equal((await post(`${url}/orders/not-a-uuid/invoice`, {})).status, 500)
      t.same(await read(), { orders: [{ status: 'open' }], jobs: [] })
      const { status, body } = await post(`${url}/orders/${orderId}/invoice`, {})
      t.equal(status, 202)
      t.same(await read(), { orders: [{ status: 'billed' }], jobs: [{ id: body.id }] })
      t.match(await get(url + body.links.self, user), { status: 200, body: { id: body.id } })
    })
  }
})
