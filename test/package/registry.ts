import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const exec = promisify(execFile)

const root = join(import.meta.dirname, '../..')

/** The directories of the packages that this repository publishes. */
const published = [root, join(root, 'release/create-accepted')]

/** A package as `npm publish` would send it. */
interface Published {
  manifest: { name: string; version: string }
  tarball: Buffer
}

/** A registry that has the packages of this checkout, and sends clients to the usual registry for all others. */
export interface Registry {
  url: string
  /** The path of the tarball of `accepted`. */
  tarball: string
}

/** Packs the checkout, which must be built, and serves it. Stops when the test ends. */
export async function startRegistry(t: Test): Promise<Registry> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-registry-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const packages = new Map<string, Published>()
  for (const source of published) {
    const manifest = JSON.parse(await readFile(join(source, 'package.json'), 'utf8'))
    await exec('npm', ['pack', '--ignore-scripts', '--pack-destination', directory], { cwd: source })
    const tarball = await readFile(join(directory, `${manifest.name}-${manifest.version}.tgz`))
    packages.set(manifest.name, { manifest, tarball })
  }
  const upstream = (await exec('npm', ['config', 'get', 'registry'], { cwd: tmpdir() })).stdout.trim()
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://registry').pathname)
    const [, name = '', file] = path.split('/')
    const found = packages.get(name)
    if (!found) return response.writeHead(302, { location: new URL(`.${request.url}`, upstream).href }).end()
    if (file) return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(found.tarball)
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(describe(found, url)))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.closeAllConnections())
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const { version } = (packages.get('accepted') as Published).manifest
  return { url, tarball: join(directory, `accepted-${version}.tgz`) }
}

/** Describes a package as a registry does. It is old, because some package managers do not install new versions. */
function describe({ manifest, tarball }: Published, url: string): object {
  const { name, version } = manifest
  const hash = (algorithm: string) => createHash(algorithm).update(tarball)
  const dist = {
    tarball: `${url}${name}/${name}-${version}.tgz`,
    integrity: `sha512-${hash('sha512').digest('base64')}`,
    shasum: hash('sha1').digest('hex'),
  }
  const time = '2026-01-01T00:00:00.000Z'
  return {
    name,
    'dist-tags': { latest: version },
    versions: { [version]: { ...manifest, dist } },
    time: { created: time, modified: time, [version]: time },
  }
}
