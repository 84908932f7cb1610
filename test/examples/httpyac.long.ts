import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'

// No development dependency: it would add 213 packages and 68 MB to each installation.
const httpyac = 'httpyac@6.16.7'

const directory = join(import.meta.dirname, '../../examples/todos')
const run = promisify(execFile)

t.test('httpyac sends every request of httpyac.http, and gets the status that the file states', async (t) => {
  const cwd = t.testdir({ 'package.json': '{}' })
  await run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', httpyac], { cwd })
  const databaseUrl = await createDatabase(t)
  const [api] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl, env: { DATA_DIR: join(cwd, 'data') } }),
  ])
  const text = await readFile(join(directory, 'httpyac.http'), 'utf8')
  await writeFile(join(cwd, 'httpyac.http'), text.replace('http://127.0.0.1:3000', api.url))
  await cp(join(directory, 'attachments/photo.png'), join(cwd, 'attachments/photo.png'))
  const program = join(cwd, 'node_modules/httpyac/bin/httpyac.js')
  // The modules that tap preloads are not for other programs.
  const { NODE_OPTIONS: _options, ...env } = process.env
  // It exits before a pipe has taken all of its output.
  const output = await open(join(cwd, 'output.json'), 'w')
  const sending = spawn(process.execPath, [program, 'send', 'httpyac.http', '--all', '--json'], {
    ...{ cwd, env, stdio: ['ignore', output.fd, 'inherit'] },
  })
  await once(sending, 'close')
  await output.close()
  const stdout = await readFile(join(cwd, 'output.json'), 'utf8')
  const { summary, requests } = JSON.parse(stdout)
  const count = text.match(/^\?\? status/gm)?.length
  t.ok(count)
  t.match(summary, { totalTests: count, successTests: count })
  for (const { title, testResults } of requests) {
    for (const { status, message } of testResults ?? []) t.equal(status, 'SUCCESS', `${title}: ${message}`)
  }
})
