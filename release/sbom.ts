/** Writes the software bill of materials of the package (CycloneDX 1.5). `npm pack` includes it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Lockfile,
  listProductionPackages,
  type ProductionPackage,
  readLockfile,
  referenceOf,
  resolveDependencies,
  root,
} from './production-packages.ts'

export const sbomFile = 'sbom.cdx.json'

interface Manifest {
  name: string
  version: string
  description: string
  license: string
}

/** Describes the production packages of a lockfile. The same lockfile gives the same text, on any machine. */
export function createSbom({ name, version, description, license }: Manifest, lockfile: Lockfile): string {
  const packages = listProductionPackages(lockfile)
  const bom = {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      component: {
        'bom-ref': `${name}@${version}`,
        type: 'library',
        ...{ name, version, description },
        licenses: licensesOf(license),
        purl: packageUrl(name, version),
      },
    },
    components: packages.map(toComponent),
    dependencies: [
      { ref: `${name}@${version}`, dependsOn: resolveDependencies(lockfile, '') },
      ...packages.map((one) => ({ ref: referenceOf(one), dependsOn: one.dependencies })),
    ],
  }
  return `${JSON.stringify(bom, null, 2)}\n`
}

const toComponent = ({ name, version, license, integrity, isOptional }: ProductionPackage) => ({
  'bom-ref': `${name}@${version}`,
  type: 'library',
  ...{ name, version },
  scope: isOptional ? 'optional' : 'required',
  hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex') }],
  ...(license && { licenses: licensesOf(license) }),
  purl: packageUrl(name, version),
})

/** An SPDX expression of several licenses is not an identifier of one. */
const licensesOf = (license: string) => [license.includes(' ') ? { expression: license } : { license: { id: license } }]

const packageUrl = (name: string, version: string) => `pkg:npm/${name.replace('@', '%40')}@${version}`

if (import.meta.main) {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(root, sbomFile), createSbom(manifest, readLockfile()))
}
