import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..')

interface Import {
  from: string
  /** For one of our modules, its path from the root. For a package, its name. */
  to: string
}

// An import may span several lines. Imports of types count too.
const importStatement =
  /(?:^|\n)\s*(?:import|export)\b(?:[^'"`;=]*\bfrom\b)?\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g

const read = (file: string) => readFileSync(join(root, file), 'utf8')

function importsOf(file: string): Import[] {
  return [...read(file).matchAll(importStatement)].map(([, statement, dynamic]) => {
    const name = (statement ?? dynamic) as string
    return { from: file, to: name.startsWith('.') ? normalize(join(dirname(file), name)) : name }
  })
}

const files = globSync(['src/**/*.ts', 'worker/**/*.ts', 'testing/**/*.ts'], { cwd: root })
const imports = files.flatMap(importsOf)

/** The files in worker/ that assemble the worker. Besides the test kit, no folder imports them; the other files beside them are for all. */
const workerRoots = ['worker/index.ts', 'worker/worker.ts', 'worker/runtime.ts']

/** Returns the layer of a module: the name of its folder. Files directly in src or worker belong to separate layers. */
function layerOf(path: string): string {
  const [top, folder, file] = path.split('/') as [string, string, string | undefined]
  if (top === 'testing') return top
  if (top === 'src') return file === undefined ? (folder === 'index.ts' ? 'index' : 'definitions') : folder
  if (file !== undefined) return `worker/${folder}`
  return workerRoots.includes(path) ? 'worker' : 'worker/common'
}

/** The layers that each layer may import besides itself. The lowest layer comes first. */
const allowed: Readonly<Record<string, readonly string[]>> = (() => {
  const definitions = ['definitions', 'primitives']
  const data = [...definitions, 'db', 'queue', 'jobs']
  const connect = [...data, 'migrate', 'accept']
  const api = [...connect, 'connect', 'watch']
  const execution = [...data, 'worker/common']
  return {
    primitives: [],
    // Functions without side effects, for example defineOperation. Every higher layer may import them.
    definitions: ['primitives'],
    'embedded-postgres': ['primitives'],
    db: definitions,
    queue: [...definitions, 'db'],
    migrate: [...definitions, 'db', 'queue'],
    jobs: [...definitions, 'db', 'queue'],
    accept: data,
    watch: data,
    connect,
    // Runs in browsers. Another test checks that these imports are of types.
    client: ['jobs'],
    doctor: [...data, 'migrate'],
    http: api,
    index: [...api, 'http'],
    cli: [...api, 'http', 'doctor', 'embedded-postgres'],
    'worker/common': data,
    'worker/execution': execution,
    'worker/isolation': execution,
    'worker/webhooks': execution,
    'worker/maintenance': [...execution, 'worker/execution'],
    worker: [
      ...[...execution, 'migrate'],
      ...['worker/execution', 'worker/isolation', 'worker/maintenance', 'worker/webhooks'],
    ],
    testing: [...api, 'http', 'embedded-postgres', 'worker/common', 'worker'],
  }
})()

const show = ({ from, to }: Import) => `${from} imports ${to}`
const isOurs = (path: string) => /^(src|worker|testing)\//.test(path)

t.test('every layer imports only lower layers', async (t) => {
  const wrong = imports
    .filter(({ to }) => isOurs(to))
    .filter(({ from, to }) => layerOf(from) !== layerOf(to) && !allowed[layerOf(from)]?.includes(layerOf(to)))
  t.same(wrong.map(show), [])
})

t.test('the client imports nothing but types from outside its folder', async (t) => {
  const valueImport = /^(?:import|export)\b(?! type\b)(?:[^'";=]*\bfrom)? '([^']+)'/gm
  const wrong = files
    .filter((file) => file.startsWith('src/client/'))
    .flatMap((from) => [...read(from).matchAll(valueImport)].map(([, to]) => ({ from, to: to as string })))
  t.ok(wrong.length > 0, 'imports are found')
  t.same(wrong.filter(({ to }) => !to.startsWith('./')).map(show), [])
})

t.test('the worker does not import Fastify', async (t) => {
  const wrong = imports.filter(({ from, to }) => from.startsWith('worker/') && /fastify/.test(to))
  t.same(wrong.map(show), [])
})

t.test(
  'in src, only one file of the command line imports the worker, and only through its public module',
  async (t) => {
    const wrong = imports
      .filter(({ from }) => from.startsWith('src/'))
      .filter(
        ({ from, to }) => to.startsWith('worker/') || (to === 'accepted/worker' && from !== 'src/cli/start-worker.ts'),
      )
    t.same(wrong.map(show), [])
  },
)

t.test('only src/queue imports pg-boss, and only src/queue/schema.ts contains the name of its schema', async (t) => {
  const wrong = imports.filter(({ from, to }) => to === 'pg-boss' && !from.startsWith('src/queue/'))
  t.same(wrong.map(show), [])
  const statement = /\b(?:from|into|update|join)\s+accepted_queue\b|'accepted_queue'/
  t.same(
    files.filter((file) => statement.test(read(file))),
    ['src/queue/schema.ts'],
  )
})

t.test('only config.ts and the command line read the environment', async (t) => {
  // The test kit passes the environment on to the process of its server.
  const allowed = ['src/settings.ts', 'testing/server/connect.ts']
  const readers = files.filter((file) => /process\.env\b/.test(read(file)))
  t.same(
    readers.filter((file) => !allowed.includes(file) && !file.startsWith('src/cli/')),
    [],
  )
})

t.test('the example app imports only public modules', async (t) => {
  const wrong = globSync('examples/**/*.ts', { cwd: root })
    .flatMap(importsOf)
    .filter(({ to }) => /^(src|worker|test)\//.test(to))
  t.same(wrong.map(show), [])
})

const maxLines = 220

t.test(`no file in src, worker or testing has more than ${maxLines} lines`, async (t) => {
  const long = files.filter((file) => read(file).trimEnd().split('\n').length > maxLines)
  t.same(long, [])
})

t.test('there is no import cycle in the product, the benchmarks, the tests or the examples', async (t) => {
  const all = globSync(
    ['src', 'worker', 'testing', 'bench', 'test', 'examples'].map((folder) => `${folder}/**/*.ts`),
    { cwd: root },
  )
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
