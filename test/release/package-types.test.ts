import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { createReport, findChanges } from '../../release/api-report.ts'
import { findFileProblems, findLinkProblems, findTypeProblems } from '../../release/check-package.ts'
import { entryPointsOf, readManifest } from '../../release/declarations.ts'
import { trimTypes } from '../../release/trim-types.ts'

/** Writes declaration files as the compiler emits them. Returns `index.d.ts` and `worker.d.ts` as entry points. */
async function emit(t: Test, files: Readonly<Record<string, string>>) {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'accepted-types-')))
  t.teardown(() => rm(directory, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true })
    await writeFile(join(directory, name), text)
  }
  return [
    { specifier: 'accepted', file: join(directory, 'index.d.ts') },
    { specifier: 'accepted/worker', file: join(directory, 'worker.d.ts') },
  ]
}

const files = {
  'index.d.ts': `import './node.ts';\nexport { type Job, run } from './job.ts';\n`,
  'worker.d.ts': `import type { Job } from './job.ts';\n/** Starts. */\nexport declare function start(job: Job): void;\n`,
  'node.d.ts': 'export {};\n',
  'job.d.ts': `
import type { FastifyRequest } from 'fastify';
import { type Queue, type Name as QueueName } from './queue.ts';
/** A job. */
export interface Job { name: QueueName; queue: typeof size }
declare const size: 3;
export declare function run(job: Job): void;
export declare function run(jobs: Job[]): import('pg').Client;
/** Used by internal modules only. */
export interface Internal { queue: Queue; boss: import('pg-boss').PgBoss }
declare module 'fastify' { interface FastifyInstance { job: Job; of(request: FastifyRequest): void } }
`,
  'queue.d.ts': `
import type { PgBoss } from 'pg-boss';
import type { Other } from './other.ts';
export type { Other } from './other.ts';
export type Queue = PgBoss | Other;
export type Name = \`\${string}.queue\`;
`,
  'other.d.ts': 'export type Other = 1;\n',
}

t.test('the package contains only the types that its entry points need', async (t) => {
  const entryPoints = await emit(t, files)
  const directory = dirname(entryPoints[0]?.file ?? '')
  const trimmed = trimTypes(entryPoints)
  t.same([...trimmed.keys()].map((file) => file.slice(directory.length + 1)).sort(), [
    ...['index.d.ts', 'job.d.ts', 'queue.d.ts', 'worker.d.ts'],
  ])
  t.equal(
    trimmed.get(join(directory, 'job.d.ts')),
    `import type { FastifyRequest } from 'fastify';
import type { Name as QueueName } from './queue.ts';
/** A job. */
export interface Job { name: QueueName; queue: typeof size }
declare const size: 3;
export declare function run(job: Job): void;
export declare function run(jobs: Job[]): import('pg').Client;
declare module 'fastify' { interface FastifyInstance { job: Job; of(request: FastifyRequest): void } }
export {};
`,
  )
  t.equal(trimmed.get(join(directory, 'queue.d.ts')), `export type Name = \`\${string}.queue\`;\nexport {};\n`)
})

t.test('the API report changes with every declaration that users can see, and with no other', async (t) => {
  const report = createReport(await emit(t, files))
  t.same([...report.keys()], ['accepted.api.md', 'accepted-worker.api.md', 'not-exported.api.md'])
  t.match(report.get('accepted.api.md'), /interface Job \{\n {4}name: QueueName;[\s\S]*function run\(job: Job\): void/)
  t.match(
    report.get('not-exported.api.md'),
    /import \{ FastifyRequest \} from 'fastify'\nimport \{ Client \} from 'pg'/,
  )
  t.match(report.get('not-exported.api.md'), /const size: 3;\n\ntype Name = /)

  const changed = async (file: keyof typeof files, from: string, to: string) => {
    const text = files[file].replace(from, to)
    t.not(text, files[file])
    return findChanges(createReport(await emit(t, { ...files, [file]: text })), report)
  }
  t.same(await changed('job.d.ts', '/** A job. */', '/** Work. */'), [])
  t.same(await changed('job.d.ts', 'queue: Queue', 'queues: Queue[]'), [])
  t.same(await changed('job.d.ts', 'run(job: Job)', 'run(job: Job, now: boolean)'), ['accepted.api.md'])
  t.same(await changed('worker.d.ts', 'start(job: Job)', 'start(job?: Job)'), ['accepted-worker.api.md'])
  t.same(await changed('queue.d.ts', '.queue', ''), ['not-exported.api.md'])
  t.same(await changed('job.d.ts', 'FastifyInstance {', 'FastifyReply {'), ['not-exported.api.md'])
  t.same(findChanges(new Map(), report), [...report.keys()].sort(), 'a file that is missing')
})

t.test('an entry point names each of its exports', async (t) => {
  const entryPoints = await emit(t, { ...files, 'index.d.ts': `export * from './job.ts';\n` })
  t.throws(() => createReport(entryPoints), /index\.d\.ts: exports must have names, unlike: export \* from/)
})

t.test('the check of the package names links of its pages that lead to no file of it', async (t) => {
  const pages = {
    'docs/a.md': '[b](b.md#x), [plan](../deploy/), [site](https://example.com), ![](a.png), [up](#a)\n',
    'docs/b.md': '[source](../src/index.ts) and [missing](c.md)\n',
    'README.md': '[examples](examples)\n',
  }
  const read = (file: string) => pages[file as keyof typeof pages]
  t.same(findLinkProblems([...Object.keys(pages), 'deploy/plan.yml'], read), [
    'docs/b.md links to ../src/index.ts, which is not in the package: name the file without a link',
    'docs/b.md links to c.md, which is not in the package: name the file without a link',
  ])
})

t.test('the check of the package names files and types that are missing or not needed', async (t) => {
  const manifest = readManifest<Parameters<typeof findFileProblems>[0]>()
  const needed = Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? target : [target.types, target.default],
  )
  const paths = [...needed, ...Object.values(manifest.bin)].map((path) => path.replace('./', ''))
  t.same(findFileProblems(manifest, paths), [])
  t.match(findFileProblems(manifest, [...paths, 'dist/src/index.js.map', 'docs/console.png', 'test/a.ts']), [
    /^dist\/src\/index\.js\.map is not needed/,
    /^docs\/console\.png is not needed/,
    /^test\/a\.ts is not needed/,
  ])
  t.same(findFileProblems(manifest, paths.slice(1)), [`${paths[0]} is missing: package.json refers to it`])

  const entryPoints = await emit(t, files)
  const problems = findTypeProblems(manifest, entryPoints, [])
  t.match(problems, [/index\.d\.ts imports .*node\.d\.ts, which is not in the package$/])
  const { pg: _, ...dependencies } = manifest.dependencies
  const withoutPg = findTypeProblems({ ...manifest, dependencies }, entryPoints, [])
  t.ok(withoutPg.some((problem) => /job\.d\.ts imports types of pg, which is no dependency$/.test(problem)))
})

t.test('every entry point has types for import and require, and a report', async (t) => {
  const manifest = readManifest<Parameters<typeof entryPointsOf>[0]>()
  for (const { specifier } of entryPointsOf(manifest)) {
    const report = await readFile(join(import.meta.dirname, `../../release/api/${specifier.replace('/', '-')}.api.md`))
    t.match(`${report}`, `# \`${specifier}\``)
  }
})

t.test('create-accepted installs the version of this package that it was published with', async (t) => {
  const { version } = readManifest<Parameters<typeof entryPointsOf>[0] & { version: string }>()
  const starter = join(import.meta.dirname, '../../release/create-accepted/package.json')
  t.match(JSON.parse(await readFile(starter, 'utf8')), { version, dependencies: { accepted: version } })
})
