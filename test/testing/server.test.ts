import t from 'tap'
import { Templates } from '../../testing/server/templates.ts'
import { queryOnce, serverUrl } from '../support/database.ts'
import { until } from '../support/until.ts'
import { createTemporaryDirectory, readRegistrations, type Seen, startProgram } from './server-programs.ts'

t.test('processes that start together share one Postgres and one template, and it ends after them', async (t) => {
  const directory = await createTemporaryDirectory(t)
  const programs = [1, 2, 3].map(() => startProgram(t, directory))
  const seen = await Promise.all(programs.map((program) => program.seen))
  t.equal(new Set(seen.map(({ url }) => url)).size, 1)
  t.equal(new Set(seen.map(({ template }) => template)).size, 1)
  t.equal(seen.filter(({ made }) => made).length, 1)
  for (const { end } of programs) end()
  await until(async () => (await readRegistrations(directory)).length === 0)
  await until(() =>
    queryOnce((seen[0] as Seen).url, 'select 1').then(
      () => false,
      () => true,
    ),
  )
})

t.test(
  'on a running server, the databases go with the last process, and those of a killed run with the next',
  async (t) => {
    const directory = await createTemporaryDirectory(t)
    const url = serverUrl()
    const countDatabases = async (prefix: string) => {
      const [row] = await queryOnce(url, 'select count(*)::int from pg_database where starts_with(datname, $1)', [
        prefix,
      ])
      return row.count
    }
    const killed = startProgram(t, directory, url)
    const first = await killed.seen
    t.equal(await countDatabases(first.prefix), 1)
    process.kill(first.pid, 'SIGKILL')
    await killed.kill()

    const program = startProgram(t, directory, url)
    const second = await program.seen
    t.not(second.prefix, first.prefix)
    t.ok(second.made)
    t.equal(await countDatabases(first.prefix), 0, 'the next run has dropped what the killed run left')
    program.end()
    await until(async () => (await countDatabases(second.prefix)) === 0)
    t.same(await readRegistrations(directory), [])
  },
)

t.test('when the maker of a template fails or ends, another process makes it', async (t) => {
  const messages: string[] = []
  const connection = (name: string) =>
    ({
      write: (text: string) =>
        messages.push(`${name} ${JSON.parse(text).template.database} ${JSON.parse(text).template.isMade}`),
    }) as never
  const [a, b, c] = ['a', 'b', 'c'].map(connection) as [never, never, never]
  const templates = new Templates('p')
  for (const one of [a, b, c]) templates.claim(one, 'key')
  templates.made(b, 'key')
  t.same(messages.splice(0), ['a p_template_1 false'])
  templates.failed(a, 'key')
  t.same(messages.splice(0), ['b p_template_2 false'])
  templates.left(b)
  t.same(messages.splice(0), ['c p_template_3 false'])
  templates.claim(a, 'key')
  templates.made(c, 'key')
  t.same(messages.splice(0), ['a p_template_3 true'])
  templates.left(c)
  templates.claim(b, 'key')
  t.same(messages.splice(0), ['b p_template_3 true'])
})
