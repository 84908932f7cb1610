import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text as readText } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { validate } from 'dockerfile-utils'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { createDatabase } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'

const root = join(import.meta.dirname, '../..')
const text = readFileSync(join(root, 'Dockerfile'), 'utf8')
const dockerfile = text.replace(/\\\n\s*(#.*\n\s*)?/g, '')
const instructions = [...dockerfile.matchAll(/^([A-Z]+) (.*)$/gm)].map(([, name, value]) => ({
  name,
  value: value as string,
}))
const { services } = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true })

const valuesOf = (name: string) => instructions.filter((one) => one.name === name).map(({ value }) => value)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
/** The paths that the image copies from here. The last word of each COPY instruction is the destination. */
const copied = valuesOf('COPY').flatMap((value) => (value.startsWith('--from=') ? [] : value.split(' ').slice(0, -1)))

const entrypoint = JSON.parse(valuesOf('ENTRYPOINT').at(-1) ?? '[]') as string[]

/** Runs the command of a service without its container. */
function run(t: Test, service: string, env: NodeJS.ProcessEnv) {
  const [, ...args] = [...entrypoint, ...services[service].command]
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, LOG_LEVEL: 'warn', ...env } })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

t.test(
  'the image copies no missing or ignored file, and runs the Node.js version of package.json as user node',
  async (t) => {
    t.ok(copied.length > 0)
    const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')
    for (const path of copied) {
      t.ok(existsSync(join(root, path)), path)
      t.notOk(ignored.includes(path), `${path} is not ignored`)
    }
    const major = manifest.engines.node.match(/\d+/)[0]
    for (const image of valuesOf('FROM')) t.match(image, new RegExp(`^node:${major}-slim\\b`))
    t.equal(valuesOf('USER').at(-1), 'node')
  },
)

t.test('the linter finds nothing in the Dockerfile, and finds a mistake', async (t) => {
  t.same(validate(text), [])
  t.not(validate(text.replace('WORKDIR /app', 'WORKDIR app')).length, 0)
})

t.test('the image for an app differs from that of the example only in what it copies and installs', async (t) => {
  const ofApp = readFileSync(join(root, 'deploy/docker/Dockerfile'), 'utf8')
  t.same(validate(ofApp), [])
  const common = (dockerfile: string) =>
    dockerfile
      .slice(dockerfile.indexOf('\n\nFROM '))
      .split('\n')
      .filter((line) => !/^(#|COPY|ENTRYPOINT)/.test(line))
  t.same(common(ofApp), common(text))
})

t.test('the last stage of the image runs no package manager, and only node_modules comes from the first', async (t) => {
  const lastStage = instructions.slice(instructions.findLastIndex(({ name }) => name === 'FROM'))
  const commands = lastStage.flatMap(({ name, value }) => (name === 'RUN' ? [value] : []))
  t.notMatch(commands.join('\n'), /\b(npm|npx|yarn|apt|apt-get|apk) /)
  t.same(
    valuesOf('COPY').filter((value) => value.startsWith('--from=')),
    ['--from=dependencies /app/node_modules ./node_modules'],
  )
})

t.test('the services run with an init process, without capabilities, and with a read-only file system', async (t) => {
  for (const name of ['migrate', 'first-key', 'api', 'worker']) {
    const { init, read_only, tmpfs, cap_drop, security_opt, user, privileged } = services[name]
    t.same(
      { init, read_only, tmpfs, cap_drop, security_opt, user, privileged },
      {
        ...{ init: true, read_only: true, tmpfs: ['/tmp'], cap_drop: ['ALL'] },
        ...{ security_opt: ['no-new-privileges:true'], user: undefined, privileged: undefined },
      },
    )
  }
  for (const name of ['postgres', 'api', 'worker']) t.ok(services[name].healthcheck.test, name)
  t.match(valuesOf('ENV').join(' '), /\bDATA_DIR=\/tmp\//)
})

t.test('the image installs every package that the copied files import', async (t) => {
  const installed = new Set([
    ...Object.keys(manifest.dependencies),
    ...valuesOf('RUN').flatMap((value) => [...value.matchAll(/"([\w-]+)@\$\(node /g)].map(([, name]) => name)),
  ])
  const imported = copied
    .flatMap((path) => globSync('**/*.ts', { cwd: join(root, path) }).map((file) => join(root, path, file)))
    .flatMap((file) => [
      ...readFileSync(file, 'utf8').matchAll(/^(?:import|export) (?!type )[^']*?from '([^'.][^']*)'/gm),
    ])
    .map(([, specifier]) => specifier as string)
    .filter((specifier) => !specifier.startsWith('node:'))
    .map((specifier) => specifier.match(/^(@[^/]+\/)?[^/]+/)?.[0] as string)
    .filter((name) => name !== manifest.name)
  t.ok(imported.includes('nodemailer'), 'the example imports a package that the product does not depend on')
  t.same(
    [...new Set(imported)].filter((name) => !installed.has(name)),
    [],
  )
})

t.test('the services start in order: Postgres, the migrations, the first key and the worker, the API', async (t) => {
  const always = Object.keys(services).filter((name) => !services[name].profiles)
  t.same(always, ['postgres', 'migrate', 'first-key', 'api', 'worker'])
  t.equal(services.postgres.image, 'postgres:18')
  t.ok(services.postgres.healthcheck)
  t.same(services.migrate.depends_on, { postgres: { condition: 'service_healthy' } })
  for (const name of ['first-key', 'worker']) {
    t.same(services[name].depends_on, { migrate: { condition: 'service_completed_successfully' } })
  }
  t.same(services.api.depends_on, { 'first-key': { condition: 'service_completed_successfully' } })
  const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = services.postgres.environment
  const url = `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres:5432/${POSTGRES_DB}`
  for (const name of ['migrate', 'first-key', 'api', 'worker']) t.equal(services[name].environment.DATABASE_URL, url)
})

t.test(
  'the profile monitoring mounts files that exist, and reads the metrics with the token of the services',
  async (t) => {
    const monitoring = Object.entries<{ profiles?: string[]; volumes: string[] }>(services).filter(
      ([, { profiles }]) => profiles,
    )
    t.same(
      monitoring.map(([name, { profiles }]) => [name, profiles]),
      [
        ['prometheus', ['monitoring']],
        ['grafana', ['monitoring']],
      ],
    )
    for (const [, { volumes }] of monitoring) {
      for (const [path = ''] of volumes.map((volume) => volume.split(':'))) {
        if (path.startsWith('.')) t.ok(existsSync(join(root, path)), path)
      }
    }
    const { scrape_configs } = parse(readFileSync(join(root, 'deploy/compose/prometheus.yml'), 'utf8'))
    t.equal(scrape_configs[0].authorization.credentials_file, `/run/secrets/${services.prometheus.secrets[0]}`)
    t.match(services.api.environment.METRICS_TOKEN, '${METRICS_TOKEN:-')
    const targets = scrape_configs[0].dns_sd_configs.map(({ names, port }: { names: string[]; port: number }) => [
      ...names,
      port,
    ])
    t.same(targets, [
      ['api', 3000],
      ['worker', 3001],
    ])
  },
)

t.test('the API is reachable from outside its container', async (t) => {
  t.match(valuesOf('ENV').join(' '), /\bHOST=0\.0\.0\.0\b/)
  t.same(services.api.ports, ['3000:3000'])
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the syntax of Compose
  t.equal(services.api.environment.PUBLIC_URL, '${PUBLIC_URL:-http://localhost:3000}')
})

t.test('the commands of the services run: migrate, then one key, and API and worker become healthy', async (t) => {
  const DATABASE_URL = await createDatabase(t, { empty: true })
  const [migrated] = await once(run(t, 'migrate', { DATABASE_URL }), 'close')
  t.equal(migrated, 0)
  const keys = async () => {
    const adding = run(t, 'first-key', { DATABASE_URL })
    const [output] = await Promise.all([readText(adding.stdout), once(adding, 'close')])
    return output
  }
  t.match(await keys(), /^accepted_\S+\n/, 'the first start shows a key')
  t.equal(await keys(), 'A key has existed before, so no key was created.\n', 'later starts create no key')
  const ports = { PORT: String(await freePort()), WORKER_PORT: String(await freePort()) }
  for (const [name, variable, port] of [
    ['api', 'PORT', '3000'],
    ['worker', 'WORKER_PORT', '3001'],
  ] as const) {
    run(t, name, { DATABASE_URL, ...ports, HOST: '0.0.0.0', PUBLIC_URL: 'http://localhost:3000' })
    const [kind, , ...args] = services[name].healthcheck.test as string[]
    t.equal(kind, 'CMD')
    const check = args.map((arg) => arg.replace(port, ports[variable]))
    await until(() =>
      promisify(execFile)(process.execPath, check).then(
        () => true,
        () => false,
      ),
    )
    t.pass(`${name} is healthy`)
  }
})
