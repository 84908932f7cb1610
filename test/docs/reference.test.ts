import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { controls } from '../fault/controls.ts'
import { rows } from '../fault/rows/index.ts'
import { createDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { start } from '../support/program.ts'
import { root } from './markdown.ts'

const read = (name: string) => readFileSync(join(root, name), 'utf8')

/** Returns the code in the first column of a page's tables. */
const firstCells = (page: string) =>
  [...read(page).matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
  )

t.test('configuration.md lists all environment variables that exist, and no others', async (t) => {
  const declared = read('src/settings.ts').match(/const environment = \{([\s\S]*?)\n\}/)?.[1] ?? ''
  const variables = [...declared.matchAll(/^ {2}([A-Z_]+):/gm)].map(([, name]) => name)
  t.ok(variables.length > 0)
  t.same(
    firstCells('docs/configuration.md')
      .filter((name) => /^[A-Z_]+$/.test(name))
      .sort(),
    variables.sort(),
  )
})

t.test('configuration.md lists all commands that exist, and no others', async (t) => {
  const commandsOf = async (...group: string[]): Promise<string[]> => {
    const { out } = await run([...group, '--help'])
    const listed = [...(out.split('Commands:\n')[1] ?? '').matchAll(/^ {2}([a-z]+) /gm)].map(
      ([, name]) => name as string,
    )
    const commands = listed.filter((name) => name !== 'help').map((name) => [...group, name])
    const found: string[] = []
    for (const command of commands) {
      const nested = group.length === 0 ? await commandsOf(...command) : []
      found.push(...(nested.length > 0 ? nested : [command.join(' ')]))
    }
    return found
  }
  const commands = await commandsOf()
  t.ok(commands.length > 0)
  const described = firstCells('docs/configuration.md').filter((name) => /^[a-z]+( [a-z]+)?$/.test(name))
  const members = ['operations', 'handlers', 'routes', 'migrations', 'authenticate']
  t.same(described.filter((name) => !members.includes(name)).sort(), commands.sort())
})

t.test('metrics.md lists all metrics that exist, and no others', async (t) => {
  const databaseUrl = await createDatabase(t)
  // Some metrics exist only for several processes.
  const api = start(t, 'api', { databaseUrl, args: ['--processes', '2'] })
  const programs = await Promise.all([api, start(t, 'worker', { databaseUrl })])
  const texts = await Promise.all(programs.map(({ url }) => fetch(`${url}/metrics`).then((answer) => answer.text())))
  const served = new Set(
    texts.flatMap((text) => [...text.matchAll(/^# TYPE (accepted_\w+)/gm)].map(([, name]) => name)),
  )
  // The API and the worker both have some metrics.
  const described = new Set(firstCells('docs/metrics.md').filter((name) => name.startsWith('accepted_')))
  t.same([...described].sort(), [...served].sort())
})

t.test('guarantees.md lists all controls, and every row that it names exists', async (t) => {
  const cells = [...read('docs/guarantees.md').matchAll(/\| rows? ([^|;]+)/g)].map(([, cell = '']) => cell)
  const named = cells.flatMap((cell) => [...cell.matchAll(/`([\w-]+)(…?)`/g)])
  t.ok(named.length > 0)
  for (const [text, name = '', isPrefix] of named) {
    t.ok(
      rows.some((row) => (isPrefix ? row.name.startsWith(name) : row.name === name)),
      text,
    )
  }
  const described = firstCells('docs/guarantees.md')
  t.same(described.sort(), controls.map(({ name }) => name).sort())
})
