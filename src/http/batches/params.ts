import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
import type { Operation } from '../../operation.ts'
import { findViolations } from '../../validation.ts'
import { findInexactParams } from '../protocol/inexact-params.ts'
import { isInformative, type SchemaViolation, toViolation } from '../protocol/violation.ts'
import type { BodyViolation } from './violations.ts'

type Params = Readonly<Record<string, unknown>>

/**
 * Checks the path parameters of an item. As in a path, a text stands for a number or a boolean if the schema demands
 * one.
 *
 * @returns the converted parameters
 */
export function checkParams(
  { route, schemas }: Operation,
  given: object | undefined = {},
): { params: Params; violations: BodyViolation[] } {
  const params = given as Params
  const names = namesIn(`${route?.url}`)
  if (names.size === 0 && Object.keys(params).length === 0) return { params, violations: [] }
  const violations: BodyViolation[] = []
  for (const name of Object.keys(params)) {
    if (names.has(name)) continue
    violations.push({
      pointer: '',
      keyword: 'params',
      message: `must not have ${name}: the path has no such parameter`,
    })
  }
  for (const [name, isOptional] of names) {
    const value = params[name]
    if (value === undefined && !isOptional) {
      violations.push({ pointer: '', keyword: 'required', message: `must have required properties ${name}` })
    } else if (value === '' || (!schemas.params && typeof (value ?? 'absent') !== 'string')) {
      violations.push({ pointer: `/${name}`, keyword: 'params', message: 'must be a text that is not empty' })
    }
  }
  if (violations.length > 0 || !schemas.params) return { params, violations }
  return convert(schemas.params, params)
}

function convert(schema: TSchema, given: Params): { params: Params; violations: BodyViolation[] } {
  if (findViolations(schema, given).length === 0) return { params: given, violations: [] }
  const inexact = findInexactParams(schema, given)
  if (inexact.length > 0) return { params: given, violations: inexact }
  const converted = Value.Convert(schema, structuredClone(given)) as Params
  const params = Object.fromEntries(
    Object.entries(given).map(([name, value]) => [name, typeof value === 'string' ? converted[name] : value]),
  )
  const violations = (findViolations(schema, params) as SchemaViolation[]).filter(isInformative).map(toViolation)
  return { params, violations }
}

const namesByUrl = new Map<string, ReadonlyMap<string, boolean>>()

/** Finds the parameters of a path in Fastify's syntax. The value is whether the parameter is optional. */
function namesIn(url: string): ReadonlyMap<string, boolean> {
  const names = namesByUrl.get(url) ?? findNames(url)
  namesByUrl.set(url, names)
  return names
}

function findNames(url: string): ReadonlyMap<string, boolean> {
  const withoutPatterns = removePatterns(url.replaceAll('::', ''))
  const named = [...withoutPatterns.matchAll(/:(\w+)(\??)/g)].map(
    ([, name, mark]) => [name as string, mark === '?'] as const,
  )
  return new Map([...named, ...(withoutPatterns.includes('*') ? [['*', false] as const] : [])])
}

/** Removes the regular expressions of parameters, which are in parentheses. */
function removePatterns(url: string): string {
  let depth = 0
  let kept = ''
  for (let index = 0; index < url.length; index++) {
    const character = url[index]
    if (character === '(') depth += 1
    if (depth === 0) kept += character
    // A parenthesis after a backslash is part of the expression.
    if (character === '\\' && depth > 0) index += 1
    if (character === ')' && depth > 0) depth -= 1
  }
  return kept
}
