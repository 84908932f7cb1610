import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineOperation } from 'accepted'
import pg from 'pg'
import t, { type Test } from 'tap'
import ts from 'typescript-5'
import { parse, parseAllDocuments } from 'yaml'
import { exitGraceSeconds, readSettings } from '../../src/settings.ts'
import { openJobs } from '../support/jobs.ts'
import { handlersFor, untilRunning, Word } from '../worker/support.ts'

const directory = join(import.meta.dirname, '../../deploy/kubernetes')

// biome-ignore lint/suspicious/noExplicitAny: each test knows the shape of its objects
type Manifest = { apiVersion: string; kind: string; [member: string]: any }

const read = (file: string) => readFileSync(join(directory, file), 'utf8')
const kustomization = parse(read('kustomization.yaml'))
const manifests: Manifest[] = kustomization.resources.flatMap((file: string) =>
  parseAllDocuments(read(file)).map((document) => document.toJS()),
)
const named = (kind: string, name: string) =>
  manifests.find((one) => one.kind === kind && one.metadata.name === name) as Manifest

/** The module that has the schema of a kind, generated from the API of Kubernetes or of KEDA. */
const moduleOf = ({ apiVersion, kind }: Manifest) =>
  apiVersion.startsWith('keda.sh/')
    ? `@kubernetes-models/keda/${apiVersion}/${kind}`
    : `kubernetes-models/${apiVersion}/${kind}`

/** Checks the values: their types, formats and enumerations, and that no required member is missing. */
async function findWrongValue(manifest: Manifest): Promise<string | undefined> {
  const { [manifest.kind]: Model } = await import(moduleOf(manifest))
  try {
    new Model(structuredClone(manifest)).validate()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** Checks the names, with the types of the same modules: a member of a literal that its type does not have is an error. */
function findWrongNames(given: readonly Manifest[]): string[] {
  const file = join(import.meta.dirname, 'manifests.ts')
  const source = given
    .map((manifest, index) => {
      const type = `import('${moduleOf(manifest)}').I${manifest.kind}`
      return `export const manifest${index}: ${type} = ${JSON.stringify(manifest)}`
    })
    .join('\n')
  const options = {
    ...{ strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022 },
    ...{ module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler },
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = (name) => name === file || fileExists(name)
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, source, ts.ScriptTarget.ES2022) : getSourceFile(name, ...rest)
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '))
}

t.test('every manifest is valid, and mistakes are found', async (t) => {
  t.ok(manifests.length > 5)
  for (const manifest of manifests) t.equal(await findWrongValue(manifest), undefined, manifest.metadata.name)
  const api = named('Deployment', 'accepted-api')
  const misspelt = structuredClone(api)
  const [container] = misspelt.spec.template.spec.containers
  container.livenesProbe = container.livenessProbe
  delete container.livenessProbe
  const scaled = structuredClone(named('ScaledObject', 'accepted-worker'))
  scaled.spec.maxReplicas = 3
  t.match(findWrongNames([...manifests, misspelt, scaled]), [/livenesProbe/, /maxReplicas/])

  const wrong = { ...api, spec: { ...api.spec, replicas: '2' } }
  t.match(await findWrongValue(wrong), /\/spec\/replicas must be integer/)
  t.match(await findWrongValue({ ...api, spec: { ...api.spec, template: undefined } }), /template/)
})

t.test('kustomize finds all files, and what they refer to', async (t) => {
  const files = globSync('*.yaml', { cwd: directory }).filter((file) => file !== 'kustomization.yaml')
  t.same(kustomization.resources.toSorted(), files.sort())
  const text = JSON.stringify(manifests)
  t.same(
    new Set([...text.matchAll(/"image":"([^"]+)"/g)].map(([, image]) => image)),
    new Set(kustomization.images.map(({ name }: { name: string }) => name)),
  )
  const [config] = kustomization.configMapGenerator
  t.match(text, `"configMapRef":{"name":"${config.name}"}`)
  const settings = Object.fromEntries(config.literals.map((literal: string) => literal.split('=')))
  t.doesNotThrow(() => readSettings(settings))
  t.equal(
    named('NetworkPolicy', 'accepted-default').spec.podSelector.matchLabels['app.kubernetes.io/part-of'],
    'accepted',
  )
  t.same(kustomization.labels, [{ pairs: { 'app.kubernetes.io/part-of': 'accepted' }, includeTemplates: true }])
  for (const { kind, spec, metadata } of manifests) {
    const labels = spec.template?.metadata.labels
    if (labels) t.equal(labels['app.kubernetes.io/name'], metadata.name)
    const wanted = (spec.selector?.matchLabels ?? spec.selector ?? labels)?.['app.kubernetes.io/name']
    if (wanted)
      t.ok(
        manifests.some((one) => one.spec.template?.metadata.labels['app.kubernetes.io/name'] === wanted),
        kind,
      )
  }
})

t.test('pods have no rights, and enough time to stop', async (t) => {
  const [config] = kustomization.configMapGenerator
  const grace = Number(config.literals.find((literal: string) => literal.startsWith('GRACE_SECONDS=')).split('=')[1])
  const pods = manifests.filter(({ spec }) => spec.template)
  t.same(
    new Set(pods.map(({ metadata }) => metadata.name)),
    new Set(['accepted-migrate', 'accepted-api', 'accepted-worker']),
  )
  for (const { metadata, spec } of pods) {
    const { securityContext, automountServiceAccountToken, containers, terminationGracePeriodSeconds } =
      spec.template.spec
    t.match(securityContext, { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } })
    t.equal(automountServiceAccountToken, false)
    const [container] = containers
    t.same(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    t.ok(container.resources.requests.cpu && container.resources.requests.memory && container.resources.limits.memory)
    if (metadata.name === 'accepted-migrate') continue
    const preStop = container.lifecycle?.preStop.sleep.seconds ?? 0
    t.ok(terminationGracePeriodSeconds > preStop + grace + exitGraceSeconds + 1, metadata.name)
    t.equal(container.readinessProbe.httpGet.path, '/health/ready')
    t.equal(container.livenessProbe.httpGet.path, '/health/live')
    const budget = named('PodDisruptionBudget', metadata.name)
    t.same(budget.spec.selector, spec.selector)
  }
})

const say = defineOperation({ name: 'word.say', input: Word })

/** Runs a query as a member of the role, like KEDA. */
async function openReader(t: Test, url: string) {
  const client = new pg.Client({ connectionString: url, options: '-c role=accepted_reader' })
  await client.connect()
  t.teardown(() => client.end())
  return async (text: string) => Object.values((await client.query(text)).rows[0])
}

t.test('the query of KEDA runs as accepted_reader, and follows the backlog', async (t) => {
  const { spec } = named('ScaledObject', 'accepted-worker')
  const [{ type, metadata, authenticationRef }] = spec.triggers
  t.equal(type, 'postgresql')
  t.ok(Number(metadata.targetQueryValue) > 0)
  t.match(named('TriggerAuthentication', authenticationRef.name).spec.secretTargetRef, [{ parameter: 'connection' }])
  t.equal(spec.scaleTargetRef.name, named('Deployment', 'accepted-worker').metadata.name)

  const jobs = await openJobs(t, [say])
  const readAsKeda = await openReader(t, jobs.database.options.url)
  t.same(await readAsKeda('select current_user::text'), ['accepted_reader'])
  const backlog = () => readAsKeda(metadata.query)
  t.same(await backlog(), ['0'])
  const id = await jobs.add(say, { word: 'one' })
  await jobs.add(say, { word: 'two' })
  await jobs.add(say, { word: 'later' }, { runAt: new Date(Date.now() + 3_600_000) })
  t.same(await backlog(), ['2'], 'jobs that are due')
  await jobs.query("select accepted.pause('word.say')")
  t.same(await backlog(), ['0'], 'no worker is needed for an operation that is paused')
  await jobs.query("select accepted.resume('word.say')")
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(handlersFor(say, { concurrency: 1, perform: () => mayEnd.promise }))
  await untilRunning(jobs, id)
  await jobs.query("select accepted.pause('word.say')")
  t.same(await backlog(), ['1'], 'a running job counts')
  await jobs.query("select accepted.resume('word.say')")
  mayEnd.resolve()
  await jobs.ended(id)
})
