import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A package that is installed with this one. */
export interface ProductionPackage {
  /** Its paths below the root: one for each installed copy, for example `node_modules/pg`. */
  paths: string[]
  name: string
  version: string
  /** An SPDX expression. Absent if the package declares no license. */
  license?: string
  /** The hash of the package's archive, in the format of Subresource Integrity. */
  integrity: string
  isOptional: boolean
  /** The packages that it imports, as `name@version`. */
  dependencies: string[]
}

interface LockEntry {
  name?: string
  version: string
  license?: string
  integrity: string
  dev?: boolean
  devOptional?: boolean
  optional?: boolean
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}

/** The content of a package-lock.json. */
export interface Lockfile {
  packages: Record<string, LockEntry>
}

export const root = join(import.meta.dirname, '..')

export const readLockfile = (): Lockfile => JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))

const directory = 'node_modules/'

const nameOf = (path: string, { name }: LockEntry) => name ?? path.slice(path.lastIndexOf(directory) + directory.length)

/**
 * Lists the packages that are installed with this one, by name. Reads the lockfile alone: `npm sbom --omit dev` leaves
 * out every package that a development dependency needs too, `pg` among them.
 */
export function listProductionPackages(lockfile: Lockfile): ProductionPackage[] {
  const byReference = new Map<string, ProductionPackage>()
  for (const [path, entry] of Object.entries(lockfile.packages)) {
    if (path === '' || entry.dev || entry.devOptional) continue
    const name = nameOf(path, entry)
    const known = byReference.get(`${name}@${entry.version}`)
    if (known) {
      known.paths.push(path)
      continue
    }
    byReference.set(`${name}@${entry.version}`, {
      paths: [path],
      name,
      version: entry.version,
      ...(entry.license && { license: entry.license }),
      integrity: entry.integrity,
      isOptional: entry.optional ?? false,
      dependencies: resolveDependencies(lockfile, path),
    })
  }
  return [...byReference.values()].sort((a, b) => (referenceOf(a) < referenceOf(b) ? -1 : 1))
}

export const referenceOf = ({ name, version }: Pick<ProductionPackage, 'name' | 'version'>) => `${name}@${version}`

/** Finds the packages that an installed package imports: each is in the nearest `node_modules` that contains it. */
export function resolveDependencies({ packages }: Lockfile, path: string): string[] {
  const entry = packages[path]
  const names = Object.keys({
    ...entry?.dependencies,
    ...entry?.optionalDependencies,
    ...(path !== '' && entry?.peerDependencies),
  })
  const found = names.flatMap((name) => {
    for (let parent = path; ; parent = parent.slice(0, Math.max(0, parent.lastIndexOf(`/${directory}`)))) {
      const candidate = `${parent === '' ? '' : `${parent}/`}${directory}${name}`
      const dependency = packages[candidate]
      if (dependency) {
        const isProduction = !dependency.dev && !dependency.devOptional
        return isProduction ? [`${nameOf(candidate, dependency)}@${dependency.version}`] : []
      }
      if (parent === '') return []
    }
  })
  return [...new Set(found)].sort()
}
