/**
 * Does what docs/frameworks.md says about Next.js, in a real app with the package as `npm publish` would send it. Needs a
 * build, and a registry for the other packages.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { createClient } from 'accepted/client'
import t, { type Test } from 'tap'
import { readPages } from '../docs/markdown.ts'
import { post } from '../support/client.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'
import { createWorkplace } from './package-managers.ts'
import { startRegistry } from './registry.ts'

const timeout = 900_000
t.setTimeout(timeout)

const exec = promisify(execFile)
const packages = ['next@16.4.6', 'react@19.3.1', 'react-dom@19.3.1', 'typescript@5.9.3', '@types/react', '@types/node']
const orderId = '0199a0a0-0000-7000-8000-000000000001'
const user = { 'x-user': 'ann' }

/** Writes the files of the page, except those of other frameworks. */
async function writeFiles(directory: string): Promise<void> {
  const blocks = readPages().find(({ name }) => name === 'docs/frameworks.md')?.blocks ?? []
  const settings = blocks.find(({ language, text }) => language === 'json' && text.includes('compilerOptions'))
  const files = blocks.flatMap(({ file, text, marker }) => {
    const path = file && relative('examples/billing', file)
    return path && marker === 'file' && !/^(express|hono)/.test(path) ? [[path, text] as const] : []
  })
  for (const [path, text] of [...files, ['tsconfig.json', settings?.text ?? ''] as const]) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), text)
  }
}

/** Starts a server of Next.js. It stops when the test ends. */
async function startNext(t: Test, command: 'dev' | 'start', cwd: string, env: NodeJS.ProcessEnv) {
  const port = await freePort()
  const args = ['node_modules/next/dist/bin/next', command, '-H', '127.0.0.1', '-p', `${port}`]
  const child = spawn(process.execPath, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  const closed = once(child, 'close')
  t.teardown(async () => {
    process.kill(-(child.pid as number), 'SIGKILL')
    await closed
    if (!t.passing()) t.comment(output)
  })
  const url = `http://127.0.0.1:${port}`
  // The first request compiles the route in `next dev`.
  const isReady = () =>
    fetch(`${url}/api/jobs`).then(
      ({ status }) => status === 401,
      () => false,
    )
  await until(isReady, 300_000)
  return { url, output: () => output }
}

t.test('the routes work in Next.js', { timeout }, async (t) => {
  const { env, createDirectory } = await createWorkplace(t, await startRegistry(t))
  const directory = await createDirectory('next')
  const databaseUrl = await createDatabase(t)
  await queryOnce(
    databaseUrl,
    `create table "order" (id uuid primary key, status text not null);
    insert into "order" values ('${orderId}', 'open');
    grant all on "order" to accepted_api`,
  )
  const appEnv = { ...env, NEXT_TELEMETRY_DISABLED: '1', DATABASE_URL: asRole(databaseUrl, 'api') }
  await writeFile(join(directory, 'package.json'), '{ "name": "app", "type": "module" }')
  await exec('npm', ['install', 'accepted', 'typebox', ...packages], { cwd: directory, env })
  await writeFiles(directory)

  for (const command of ['dev', 'start'] as const) {
    await t.test(`with next ${command}`, { timeout }, async (t) => {
      if (command === 'start') {
        const { DATABASE_URL: _, ...withoutDatabase } = appEnv
        const args = ['node_modules/next/dist/bin/next', 'build']
        await exec(process.execPath, args, { cwd: directory, env: withoutDatabase })
      }
      const { url, output } = await startNext(t, command, directory, appEnv)
      const submitted = await post(`${url}/api/invoices`, { orderId }, user)
      t.equal(submitted.status, 202)
      t.equal(submitted.headers.get('location'), `${url}/api/jobs/${submitted.body.id}/result`)
      t.match(await post(`${url}/api/invoices`, { orderId: 7 }, user), { status: 400 })

      const own = await post(`${url}/orders/${orderId}/invoice`, {}, user)
      t.match(own, { status: 202, body: { operation: 'invoice.send', status: 'queued' } })
      t.same(await queryOnce(databaseUrl, 'select status from "order"'), [{ status: 'billed' }])
      await queryOnce(databaseUrl, `update "order" set status = 'open'`)

      const client = createClient({ url: `${url}/api`, headers: user, routes: { 'invoice.send': 'POST /invoices' } })
      const job = await client.submit('invoice.send', { orderId })
      const outcome = client.result(job).catch(({ code }) => code)
      const seen: string[] = []
      for await (const { status } of client.watch(job)) {
        if (seen.push(status) === 1) await client.cancel(job)
      }
      t.same(seen, ['queued', 'canceled'], 'the event stream is not held back')
      t.equal(await outcome, 'operation-canceled')
      t.equal((await client.get(job)).status, 'canceled')
      t.notMatch(output(), /uncaught|unhandled/i)
    })
  }
})
