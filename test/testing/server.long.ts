import { existsSync } from 'node:fs'
import t from 'tap'
import { queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'
import { createTemporaryDirectory, readRegistrations, startProgram } from './server-programs.ts'

t.test('the next run removes the Postgres and the data of a killed server process', async (t) => {
  const directory = await createTemporaryDirectory(t)
  const killed = startProgram(t, directory)
  const { url, pid } = await killed.seen
  const { dataDir } = JSON.parse((await readRegistrations(directory))[0] as string)
  process.kill(pid, 'SIGKILL')
  await killed.kill()
  t.same(await queryOnce(url, 'select 1 as one'), [{ one: 1 }], 'Postgres outlives its server process')
  t.ok(existsSync(dataDir))

  const next = startProgram(t, directory)
  t.not((await next.seen).url, url)
  t.notOk(existsSync(dataDir))
  await t.rejects(queryOnce(url, 'select 1'))
  next.end()
  await until(async () => (await readRegistrations(directory)).length === 0)
})
