// The recommended rules of @graphql-eslint for schemas, and the exceptions with their reasons.
import graphql from '@graphql-eslint/eslint-plugin';

export default [
  {
    files: ['**/*.graphql'],
    plugins: { '@graphql-eslint': graphql },
    languageOptions: {
      parser: graphql.parser,
      parserOptions: { graphQLConfig: { schema: './schema.graphql' } },
    },
    rules: {
      ...graphql.configs['flat/schema-recommended'].rules,
      // An id lets clients merge what they know of a record. Records have one: the types below are
      // none, and a cache that merges two of them shows the wrong one.
      '@graphql-eslint/strict-id-in-types': [
        'error',
        {
          exceptions: {
            types: [
              'AdvertiserPage', // The same filters may give another page at any time.
              'ContactPage',
              'ContactPreview', // The contact does not exist yet.
              'InputProblem', // A part of one error.
              'Pagination', // A part of one page.
              'Viewer', // There is one at most, and ids of keys are for the operator.
            ],
            suffixes: ['Error'], // A part of one answer, whose `requestId` the caller may choose.
          },
        },
      ],
    },
  },
];
