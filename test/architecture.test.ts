import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..')

interface Import {
  from: string
  /** A path from the root for our own modules, else the name of the package. */
  to: string
}

// A statement may span lines, and a type import couples as much as any other.
const importStatement = /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g

const read = (file: string) => readFileSync(join(root, file), 'utf8')

function importsOf(file: string): Import[] {
  return [...read(file).matchAll(importStatement)].map(([, statement, dynamic]) => {
    const name = (statement ?? dynamic) as string
    return { from: file, to: name.startsWith('.') ? normalize(join(dirname(file), name)) : name }
  })
}

const files = globSync(['src/**/*.ts', 'worker/**/*.ts'], { cwd: root })
const imports = files.flatMap(importsOf)

/** The layer of a module: its folder below src or worker; `definitions` and `worker` for the files beside the folders. */
function layerOf(path: string): string {
  const [top, folder, file] = path.split('/') as [string, string, string | undefined]
  if (top === 'src') return file === undefined ? (folder === 'index.ts' ? 'index' : 'definitions') : folder
  return file === undefined ? 'worker' : `worker/${folder}`
}

/** What each layer may import besides itself, the lowest first. */
const allowed: Readonly<Record<string, readonly string[]>> = (() => {
  const definitions = ['definitions', 'primitives']
  const data = [...definitions, 'db', 'queue', 'jobs']
  const api = [...data, 'migrate', 'accept', 'watch']
  const execution = [...data, 'worker']
  return {
    primitives: [],
    // defineOperation, defineConfig and the like: pure, and known to every layer above.
    definitions: ['primitives'],
    'embedded-postgres': ['primitives'],
    db: definitions,
    queue: [...definitions, 'db'],
    migrate: [...definitions, 'db', 'queue'],
    jobs: [...definitions, 'db', 'queue'],
    accept: data,
    watch: data,
    http: api,
    index: [...api, 'http'],
    cli: [...api, 'http', 'embedded-postgres'],
    'worker/execution': execution,
    'worker/isolation': execution,
    'worker/webhooks': execution,
    'worker/maintenance': [...execution, 'worker/execution'],
    worker: [
      ...[...data, 'migrate'],
      ...['worker/execution', 'worker/isolation', 'worker/maintenance', 'worker/webhooks'],
    ],
  }
})()

const show = ({ from, to }: Import) => `${from} imports ${to}`
const isOurs = (path: string) => /^(src|worker)\//.test(path)

t.test('every layer imports lower layers only', async (t) => {
  const wrong = imports
    .filter(({ to }) => isOurs(to))
    .filter(({ from, to }) => layerOf(from) !== layerOf(to) && !allowed[layerOf(from)]?.includes(layerOf(to)))
  t.same(wrong.map(show), [])
})

t.test('the worker does not import Fastify', async (t) => {
  const wrong = imports.filter(({ from, to }) => from.startsWith('worker/') && /fastify/.test(to))
  t.same(wrong.map(show), [])
})

t.test('src does not import the worker, except the command that runs it, through its public module', async (t) => {
  const wrong = imports
    .filter(({ from }) => from.startsWith('src/'))
    .filter(({ from, to }) => to.startsWith('worker/') || (to === 'accepted/worker' && from !== 'src/cli/worker.ts'))
  t.same(wrong.map(show), [])
})

t.test('pg-boss is imported in src/queue only, and its schema is named in one file', async (t) => {
  const wrong = imports.filter(({ from, to }) => to === 'pg-boss' && !from.startsWith('src/queue/'))
  t.same(wrong.map(show), [])
  const statement = /\b(?:from|into|update|join)\s+accepted_queue\b|'accepted_queue'/
  t.same(
    files.filter((file) => statement.test(read(file))),
    ['src/queue/schema.ts'],
  )
})

t.test('only config.ts reads the environment, and the command line passes it on', async (t) => {
  const readers = files.filter((file) => /process\.env\b/.test(read(file)))
  t.same(
    readers.filter((file) => file !== 'src/config.ts' && !file.startsWith('src/cli/')),
    [],
  )
})

t.test('the example app imports public modules only', async (t) => {
  const wrong = globSync('examples/**/*.ts', { cwd: root })
    .flatMap(importsOf)
    .filter(({ to }) => /^(src|worker|test)\//.test(to))
  t.same(wrong.map(show), [])
})

t.test('the imports of src, worker and bench have no cycle', async (t) => {
  const all = globSync(['src/**/*.ts', 'worker/**/*.ts', 'bench/**/*.ts'], { cwd: root })
  const graph = Map.groupBy(
    all.flatMap(importsOf).filter(({ to }) => all.includes(to)),
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
  for (const file of all) visit(file, [])
  t.same(cycles, [])
})
