import { defineOperation } from 'accepted'
import Type from 'typebox'

const input = Type.Object({ sequence: Type.Integer() })

// All options have their defaults.
export const first = defineOperation({ name: 'cell.first', input })
export const second = defineOperation({ name: 'cell.second', input })
export const third = defineOperation({ name: 'cell.third', input })
export const fourth = defineOperation({ name: 'cell.fourth', input })
