import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..')

interface Import {
  from: string
  /** A path from the root for our own modules, else the package's name. */
  to: string
}

// A statement may span lines; a type import couples as much as any other.
const importStatement = /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(importStatement)].map(([, statement, dynamic]) => {
    const name = (statement ?? dynamic) as string
    return { from: file, to: name.startsWith('.') ? normalize(join(dirname(file), name)) : name }
  })
}

const files = globSync(['src/**/*.ts', 'worker/**/*.ts'], { cwd: root })
const imports = files.flatMap(importsOf)

/** The layer of a module of src: its folder, or its name where it lies at the top. */
const layerOf = (path: string) => relative('src', path).split('/')[0]?.replace(/\.ts$/, '') as string

// What each may import besides itself. The leaves at the top know nothing but each other.
const leaves = [
  'errors',
  'operation',
  'validation',
  'schedule',
  'config',
  'redact',
  'log',
  'metrics',
  'recent-map',
  'batcher',
  'uuid',
]
const allowed: Record<string, string[]> = {
  errors: [],
  operation: [],
  validation: ['operation'],
  schedule: ['operation'],
  config: [],
  redact: [],
  log: ['redact'],
  metrics: [],
  'recent-map': [],
  batcher: [],
  uuid: [],
  db: leaves,
  jobs: [...leaves, 'db'],
  accept: [...leaves, 'db', 'jobs'],
  watch: [...leaves, 'db', 'jobs'],
  http: [...leaves, 'db', 'jobs', 'accept', 'watch'],
  cli: [...leaves, 'db', 'jobs', 'accept', 'watch', 'http'],
  index: [...leaves, 'db', 'jobs', 'accept', 'watch', 'http'],
}

const show = ({ from, to }: Import) => `${from} imports ${to}`

t.test('the layers of src import downwards only', async (t) => {
  const wrong = imports
    .filter(({ from, to }) => from.startsWith('src/') && to.startsWith('src/'))
    .filter(({ from, to }) => layerOf(from) !== layerOf(to) && !allowed[layerOf(from)]?.includes(layerOf(to)))
  t.same(wrong.map(show), [])
})

t.test('the worker uses db, jobs and the leaves of src, and neither http nor fastify', async (t) => {
  const wrong = imports
    .filter(({ from }) => from.startsWith('worker/'))
    .filter(
      ({ to }) => /fastify/.test(to) || (to.startsWith('src/') && ![...leaves, 'db', 'jobs'].includes(layerOf(to))),
    )
  t.same(wrong.map(show), [])
})

t.test('src does not import the worker; the command that runs it goes through its public face', async (t) => {
  const wrong = imports
    .filter(({ from }) => from.startsWith('src/'))
    .filter(({ from, to }) => to.startsWith('worker/') || (to === 'accepted/worker' && from !== 'src/cli/worker.ts'))
  t.same(wrong.map(show), [])
})

t.test('pg-boss is imported in db/boss.ts and worker/claim.ts only', async (t) => {
  const wrong = imports
    .filter(({ to }) => to === 'pg-boss')
    .filter(({ from }) => !['src/db/boss.ts', 'worker/claim.ts'].includes(from))
  t.same(wrong.map(show), [])
})

t.test('only config.ts reads the environment, and the command line hands it on', async (t) => {
  const readers = files.filter((file) => /process\.env\b/.test(readFileSync(join(root, file), 'utf8')))
  t.same(
    readers.filter((file) => file !== 'src/config.ts' && !file.startsWith('src/cli/')),
    [],
  )
})

t.test('the example app imports only the public face', async (t) => {
  const wrong = globSync('examples/**/*.ts', { cwd: root })
    .flatMap(importsOf)
    .filter(({ to }) => /^(src|worker|test)\//.test(to))
  t.same(wrong.map(show), [])
})

t.test('there is no cycle', async (t) => {
  const graph = Map.groupBy(
    imports.filter(({ to }) => files.includes(to)),
    ({ from }) => from,
  )
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → '))
    if (path.includes(file) || done.has(file)) return
    for (const { to } of graph.get(file) ?? []) visit(to, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  t.same(cycles, [])
})
