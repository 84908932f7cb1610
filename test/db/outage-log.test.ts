import t from 'tap'
import { post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { type Program, start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

/** A process may print this many lines about one outage. */
const maxLines = 5

t.test('during an outage of Postgres, an API and a worker print a few lines without stacks', async (t) => {
  const proxy = await startProxy(t, await createDatabase(t))
  const api = await start(t, 'api', { databaseUrl: proxy.url })
  const worker = await start(t, 'worker', { databaseUrl: proxy.url })
  const submit = async () => (await post(`${api.url}/todos`, { title: 'x' })).status
  t.equal(await submit(), 202)
  await proxy.close()
  for (let request = 0; request < 50; request++) t.equal(await submit(), 503)
  // The worker says this after five seconds, in which its polls and heartbeats have failed many times.
  await until(async () => {
    const response = await fetch(`${worker.url}/health/ready`)
    return ((await response.json()) as { status: string }).status === 'database-unreachable'
  })
  await proxy.open()
  await until(async () => (await submit()) === 202)
  await until(async () => (await fetch(`${worker.url}/health/ready`)).status === 200)
  for (const [name, program] of Object.entries({ api, worker })) checkLines(name, program)

  function checkLines(name: string, program: Program): void {
    const lines = program.output().split('\n').filter(Boolean)
    t.ok(lines.length > 0, `the ${name} says that Postgres is unavailable`)
    t.ok(lines.length <= maxLines, `the ${name} printed ${lines.length} lines:\n${lines.join('\n')}`)
    t.notMatch(program.output(), /\bat .*:\d+:\d+/, `the ${name} printed no stack`)
  }
})
