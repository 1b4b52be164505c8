"""leepjax: when does transfer learning work?"""
